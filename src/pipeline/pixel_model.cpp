// Opening a pixel-space model's folder, and what a request may ask of it.
#include "pipeline/pixel_model.h"

#include <algorithm>

#include "pipeline/effects.h"
#include "pipeline/stages.h"

namespace easel {

namespace fs = std::filesystem;

namespace {

struct PixelPipelineRow {
  const char* class_name;
  const char* sampler;  // nullptr: that of the scheduler's class
  int64_t steps;        // its call's default
};

// DDIMPipeline turns whatever scheduler it is given into a DDIMScheduler.
constexpr PixelPipelineRow kPipelines[] = {{"DDPMPipeline", nullptr, 1000}, {"DDIMPipeline", "ddim", 50}};

const PixelPipelineRow* find_pipeline(const std::string& class_name) {
  for (const PixelPipelineRow& row : kPipelines) {
    if (class_name == row.class_name) return &row;
  }
  return nullptr;
}

fs::path first_that_exists(const fs::path& usual, const fs::path& other) {
  std::error_code error;
  return !fs::exists(usual, error) && fs::exists(other, error) ? other : usual;
}

bool learns_variance(const SchedulerConfig& scheduler) {
  const auto type = scheduler.fields.find("variance_type");
  return type != scheduler.fields.end() && type->is_string() && type->get<std::string>().starts_with("learned");
}

void check_channels(const PixelModel& m) {
  Faults faults;
  const int64_t in = m.unet.in_channels, out = m.unet.out_channels;
  const std::string where = m.path.string() + ": the U-Net's ";
  if (in != 1 && in != 3) faults.add(where + "in_channels is " + std::to_string(in) + ", expected 3 (RGB) or 1 (grey)");
  const int64_t expected = learns_variance(m.scheduler) ? 2 * in : in;
  if (out != expected && out != 2 * in)
    faults.add(where + "out_channels is " + std::to_string(out) + ", expected " + std::to_string(expected) +
               " with variance_type " + m.scheduler.fields.value("variance_type", json("fixed_small")).dump());
  faults.raise_if_any(ErrorKind::kFile);
}

}  // namespace

bool is_pixel_pipeline(const std::string& class_name) { return find_pipeline(class_name) != nullptr; }

PixelModel open_pixel_model(const fs::path& folder) {
  const fs::path index = folder / "model_index.json";
  const json name = read_json(index).value("_class_name", json());
  const PixelPipelineRow* row = name.is_string() ? find_pipeline(name.get<std::string>()) : nullptr;
  if (row == nullptr)
    throw Error(ErrorKind::kFile,
                index.string() + ": _class_name is " + shown(name) + ", expected DDPMPipeline or DDIMPipeline");

  PixelModel m;
  m.path = folder;
  m.steps = row->steps;
  const fs::path config = first_that_exists(folder / "unet/config.json", folder / "config.json");
  const fs::path scheduler =
      first_that_exists(folder / "scheduler/scheduler_config.json", folder / "scheduler_config.json");
  m.unet_folder = config.parent_path();
  m.unet = UNet2DSpec::from_json(read_json(config), config.string());
  m.scheduler = SchedulerConfig::from_json(read_json(scheduler), scheduler.string());
  m.sampler = row->sampler != nullptr ? &find_sampler(row->sampler) : &sampler_of(m.scheduler);
  check_channels(m);
  return m;
}

SourcePtr open_weights(const PixelModel& m, bool prefer_half) {
  return open_part(m.unet_folder, "diffusion_pytorch_model", prefer_half);
}

namespace {

void find_idle_fields(const Request& given, const PixelModel& m, Faults& faults, IdleFields& idle) {
  static const std::set<std::string> kRead = {
      "width",     "height", "seed",   "steps", "sampler",       "eta",      "prediction", "scheduler", "sigmas",
      "timesteps", "model",  "device", "dtype", "prompt_syntax", "init_img", "strength",   "resize"};
  const std::string unconditional = m.path.string() + " is a pixel-space model (UNet2DModel): it draws without a text";
  for (const RequestField& field : request_fields()) {
    const bool is_given = std::visit([&](auto member) { return (given.*member).has_value(); }, field.member);
    if (!is_given || kRead.contains(field.name)) continue;
    if (field.name != "prompt")
      idle.push_back({field.name, flag_of(field) + " has no effect: " + unconditional + " and has no VAE"});
    else if (!given.prompt->empty())
      faults.add("a prompt has no effect: " + unconditional);
  }
  if (given.dtype == "int8")
    idle.push_back({"dtype", "--dtype int8 has no effect: a UNet2DModel has no transformer blocks"});
}

void set_side(std::optional<int64_t>& side, const char* flag, int64_t own, const PixelModel& m, Faults& faults) {
  if (side && *side != own)
    faults.add(std::string(flag) + " " + std::to_string(*side) + ": " + m.path.string() + " draws " +
               std::to_string(m.unet.sample_width) + "x" + std::to_string(m.unet.sample_height) + " only");
  side = own;
}

// A picture is varied as SDEdit does it (Meng et al. 2022): noised, and the way back from there.
void fill_picture(Request& r, Faults& faults) {
  for (const auto& [is_given, flag] :
       {std::pair{r.strength.has_value(), "--strength"}, {r.resize.has_value(), "--resize"}}) {
    if (is_given && !r.init_img) faults.add(std::string(flag) + " has no effect without --init-img");
  }
  if (!r.init_img || !faults.empty()) return;
  if (!r.strength) r.strength = 0.75;
  const auto [width, height] = picture_size(*r.init_img);
  if (width == *r.width && height == *r.height)
    r.resize.reset();
  else if (!r.resize)
    faults.add(*r.init_img + " is " + std::to_string(width) + "x" + std::to_string(height) + ": this model draws " +
               std::to_string(*r.width) + "x" + std::to_string(*r.height) + "; --resize fit, fill or stretch it");
}

}  // namespace

std::unique_ptr<Sampler> make_sampler(const Request& r, const PixelModel& m) {
  return find_sampler(*r.sampler).make(m.scheduler, sampler_options(r));
}

Request resolve(const Request& given, const PixelModel& m, const Precision& precision,
                std::vector<std::string>* notes) {
  TORCH_CHECK(given.seed, "a request needs a seed before it is resolved");
  Faults faults;
  IdleFields idle;
  find_idle_fields(given, m, faults, idle);
  Request r = given;
  r.prompt = "";
  set_side(r.width, "--width", m.unet.sample_width, m, faults);
  set_side(r.height, "--height", m.unet.sample_height, m, faults);
  fill_picture(r, faults);
  if (!r.sampler) r.sampler = m.sampler->name;
  resolve_sampler(r, /*sdxl=*/false, faults);
  const SamplerRow& sampler = find_sampler(*r.sampler);
  if (!r.steps) r.steps = m.steps;
  if (r.eta && !sampler.has_eta)
    idle.push_back({"eta", "--eta has no effect: the sampler " + sampler.name + " has none"});
  settle(idle, r, faults, notes);
  if (!r.eta && sampler.has_eta) r.eta = sampler.default_eta;
  faults.raise_if_any(ErrorKind::kUsage);
  make_sampler(r, m);  // throws where the schedule cannot take the steps

  r.model = given.model.value_or(m.path.string());
  r.device = precision.device_name();
  r.dtype = precision.dtype_name();
  r.prompt_syntax = "raw";
  return r;
}

}  // namespace easel
