#include "unet/kinds.h"

namespace easel::testing {

Tensor call_unet(const Weights& w, const std::string& name, const json& config, int64_t batch) {
  const SourcePtr calls = unet_calls();
  const auto load = [&](const char* what) { return calls->load(name + "." + what); };
  const Tensor sample = load("sample").narrow(0, 0, batch);
  const double t = load("timestep").item<double>();
  if (is_pixel_unet(config)) return UNet2D(w, UNet2DSpec::from_json(config, name))(sample, t);
  const UNetSpec spec = UNetSpec::from_json(config, name);
  AddedConditions added;
  if (spec.text_time) {
    added.text_embeds = load("text_embeds").narrow(0, 0, batch);
    added.time_ids = load("time_ids").narrow(0, 0, batch);
  }
  if (spec.time_cond_proj_dim > 0) added.guidance_scale = 7.5;
  return UNet(w, spec)(sample, t, load("context").narrow(0, 0, batch), added);
}

std::map<std::string, Shape> asked_keys(const json& config) {
  const Weights shapes(nullptr, at::kMeta, at::kFloat);
  if (is_pixel_unet(config))
    UNet2D{shapes, UNet2DSpec::from_json(config, "config")};
  else
    UNet{shapes, UNetSpec::from_json(config, "config")};
  return shapes.binding().asked;
}

namespace {

// "a.{0,1}.b" → a.0.b, a.1.b
std::vector<std::string> written_out(const std::string& key) {
  const auto open = key.find('{');
  if (open == std::string::npos) return {key};
  const auto close = key.find('}', open);
  std::vector<std::string> keys;
  std::istringstream numbers(key.substr(open + 1, close - open - 1));
  for (std::string number; std::getline(numbers, number, ',');) {
    for (std::string& rest : written_out(key.substr(close + 1))) keys.push_back(key.substr(0, open) + number + rest);
  }
  return keys;
}

}  // namespace

std::map<std::string, Shape> full_size_keys(const std::string& name, const std::string& part) {
  static const json all = read(data("golden/keys.full.json"));
  const json& folded = all.at(name).at(part);
  if (folded.is_string()) return full_size_keys(folded.get<std::string>(), part);
  std::map<std::string, Shape> keys;
  for (const auto& [key, shape] : folded.items()) {
    for (const std::string& one : written_out(key)) keys[one] = shape.get<Shape>();
  }
  return keys;
}

}  // namespace easel::testing
