#include "pipeline/effects.h"

#include <algorithm>

namespace easel {

namespace {

class Effects {
 public:
  Effects(const Request& given, const Request& filled, const Checkpoint& c, IdleFields& idle)
      : given_(given), filled_(filled), c_(c), idle_(idle) {}

  void check() {
    guidance();
    texts();
    sizes();
    refiner();
  }

 private:
  void none(bool is_given, const char* field, const std::string& reason) {
    if (is_given) idle_.push_back({field, flag_of(*find_request_field(field)) + " has no effect" + reason});
  }

  void guidance() {
    const double scale = *filled_.cfg_scale;
    if (c_.is_guided(scale)) return;
    const std::string reason = c_.unet.time_cond_proj_dim > 0
                                   ? ": this U-Net was distilled with guidance built in"
                                   : " at --cfg-scale " + json(scale).dump() + ": guidance is off at 1 and below";
    none(given_.negative_prompt.has_value(), "negative_prompt", reason);
    none(given_.negative_prompt_2.has_value(), "negative_prompt_2", reason);
    none(given_.cfg_rescale.value_or(0) > 0, "cfg_rescale", reason);
    none(given_.negative_aesthetic_score.has_value(), "negative_aesthetic_score", reason);
    none(given_.cfg_start.value_or(0) > 0, "cfg_start", reason);
    none(given_.cfg_end.value_or(1) < 1, "cfg_end", reason);
  }

  void texts() {
    none(given_.prompt_weighting && filled_.prompt_syntax == "raw", "prompt_weighting", " with --prompt-syntax raw");
    none(given_.lora_dir && filled_.prompt_syntax == "raw", "lora_dir",
         " with --prompt-syntax raw: prompts have no tags");
    none(given_.embd_dir && filled_.prompt_syntax == "raw", "embd_dir", " with --prompt-syntax raw");
    none(given_.embd_dir && c_.multilingual, "embd_dir", ": AltDiffusion's text encoder takes no textual inversions");
    if (!c_.text_encoder || !c_.text_encoder_2) {
      const std::string reason = ": this model has one text encoder, and " +
                                 std::string(c_.is_sdxl() ? "a refiner's takes the first prompt" : "no second");
      none(given_.prompt_2.has_value(), "prompt_2", reason);
      none(given_.negative_prompt_2.has_value(), "negative_prompt_2", reason);
    } else if (!given_.negative_prompt && c_.force_zeros_for_empty_prompt) {
      none(given_.negative_prompt_2.has_value(), "negative_prompt_2",
           " without --negative-prompt: this model then takes zeros for both (-n \"\" encodes an empty text)");
    }
  }

  void sizes() {
    if (!c_.is_sdxl()) {
      const std::string reason = ": only Stable Diffusion XL is told sizes";
      none(given_.original_size.has_value(), "original_size", reason);
      none(given_.crop.has_value(), "crop", reason);
      none(given_.target_size.has_value(), "target_size", reason);
    } else if (c_.requires_aesthetics_score) {
      none(given_.target_size.has_value(), "target_size", ": a refiner is told an aesthetic score in its place");
    }
  }

  void refiner() {
    none(given_.refiner_start && !c_.refiner, "refiner_start", " without --refiner");
    if (c_.requires_aesthetics_score || (c_.refiner && c_.refiner->requires_aesthetics_score)) return;
    const std::string reason = ": only Stable Diffusion XL's refiner is told a score";
    none(given_.aesthetic_score.has_value(), "aesthetic_score", reason);
    none(given_.negative_aesthetic_score.has_value(), "negative_aesthetic_score", reason);
  }

  const Request &given_, &filled_;
  const Checkpoint& c_;
  IdleFields& idle_;
};

}  // namespace

std::string flag_of(const RequestField& field) {
  std::string flag = "--" + field.name;
  std::replace(flag.begin(), flag.end(), '_', '-');
  return flag;
}

void settle(const IdleFields& idle, Request& r, Faults& faults, std::vector<std::string>* notes) {
  for (const IdleField& one : idle) {
    if (notes == nullptr) {
      faults.add(one.sentence);
      continue;
    }
    notes->push_back(one.sentence);
    std::visit([&](auto member) { (r.*member).reset(); }, find_request_field(one.field)->member);
  }
}

void find_idle_fields(const Request& given, const Request& filled, const Checkpoint& c, const SamplerRow& sampler,
                      IdleFields& idle) {
  Effects(given, filled, c, idle).check();
  if (given.eta && !sampler.has_eta)
    idle.push_back({"eta", "--eta has no effect: the sampler " + sampler.name + " has none"});
}

}  // namespace easel
