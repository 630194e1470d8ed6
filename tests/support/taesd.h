// The small autoencoders of scripts/golden/taesd_golden.py.
#pragma once

#include "easel/vae.h"
#include "support/golden.h"

namespace easel::testing {

inline const json& taesd() {
  static const json content = read(data("golden/taesd.json"));
  return content;
}
inline json taesd_config(int number) { return taesd().at("configs").at(static_cast<std::size_t>(number)); }
inline SourcePtr taesd_values() { return open_safetensors(data("golden/taesd.safetensors")); }

inline VaeSpec taesd_spec(int number) { return VaeSpec::from_json(taesd_config(number), "config.json"); }

// The weights, by diffusers' names; the decoder's last convolution makes pictures inside [0, 1].
inline std::vector<std::pair<std::string, Tensor>> taesd_tensors(int number) {
  const Weights shapes(nullptr, at::kMeta, at::kFloat);
  const VaeSpec spec = taesd_spec(number);
  VaeDecoder(shapes, spec), VaeEncoder(shapes, spec);
  int64_t last = 1;  // conv_in and its activation, then blocks, an nn.Upsample and a convolution a level
  for (const int64_t blocks : spec.tiny->num_decoder_blocks) last += blocks + 2;
  const std::string end = "decoder.layers." + std::to_string(last - 1) + ".";
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const auto& [name, shape] : shapes.binding().asked) {
    Tensor tensor = random_weight("vae/" + name, shape, 0);
    if (name == end + "weight") tensor = tensor * 0.3;
    if (name == end + "bias") tensor = 0.5 + 0.2 * tensor;
    tensors.emplace_back(name, tensor);
  }
  return tensors;
}

// One of the two as TAESD's author names it: "3.conv.0.weight".
inline std::vector<std::pair<std::string, Tensor>> taesd_by_author(int number, const std::string& network) {
  std::vector<std::pair<std::string, Tensor>> tensors;
  const std::string begin = network + ".layers.";
  for (const auto& [name, tensor] : taesd_tensors(number)) {
    if (!name.starts_with(begin)) continue;
    const std::string rest = name.substr(begin.size());
    const std::size_t dot = rest.find('.');
    const int64_t layer = std::stoll(rest.substr(0, dot)) + (network == "decoder" ? 1 : 0);
    tensors.emplace_back(std::to_string(layer) + rest.substr(dot), tensor);
  }
  return tensors;
}

}  // namespace easel::testing
