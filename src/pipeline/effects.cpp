#include "pipeline/effects.h"

namespace easel {

namespace {

class Effects {
 public:
  Effects(const Request& given, const Request& filled, const Checkpoint& c, Faults& faults)
      : given_(given), filled_(filled), c_(c), faults_(faults) {}

  void check() {
    guidance();
    texts();
    sizes();
    refiner();
  }

 private:
  void none(bool is_given, const char* flag, const std::string& reason) {
    if (is_given) faults_.add(std::string(flag) + " has no effect" + reason);
  }

  void guidance() {
    const double scale = *filled_.cfg_scale;
    if (c_.is_guided(scale)) return;
    const std::string reason = c_.unet.time_cond_proj_dim > 0
                                   ? ": this U-Net was distilled with guidance built in"
                                   : " at --cfg-scale " + json(scale).dump() + ": guidance is off at 1 and below";
    none(given_.negative_prompt.has_value(), "--negative-prompt", reason);
    none(given_.negative_prompt_2.has_value(), "--negative-prompt-2", reason);
    none(given_.cfg_rescale.value_or(0) > 0, "--cfg-rescale", reason);
    none(given_.negative_aesthetic_score.has_value(), "--negative-aesthetic-score", reason);
    none(given_.cfg_start.value_or(0) > 0, "--cfg-start", reason);
    none(given_.cfg_end.value_or(1) < 1, "--cfg-end", reason);
  }

  void texts() {
    if (!c_.text_encoder || !c_.text_encoder_2) {
      const std::string reason = ": this model has one text encoder, and " +
                                 std::string(c_.is_sdxl() ? "a refiner's takes the first prompt" : "no second");
      none(given_.prompt_2.has_value(), "--prompt-2", reason);
      none(given_.negative_prompt_2.has_value(), "--negative-prompt-2", reason);
    } else if (!given_.negative_prompt && c_.force_zeros_for_empty_prompt) {
      none(given_.negative_prompt_2.has_value(), "--negative-prompt-2",
           " without --negative-prompt: this model then takes zeros for both (-n \"\" encodes an empty text)");
    }
  }

  void sizes() {
    if (!c_.is_sdxl()) {
      const std::string reason = ": only Stable Diffusion XL is told sizes";
      none(given_.original_size.has_value(), "--original-size", reason);
      none(given_.crop.has_value(), "--crop", reason);
      none(given_.target_size.has_value(), "--target-size", reason);
    } else if (c_.requires_aesthetics_score) {
      none(given_.target_size.has_value(), "--target-size", ": a refiner is told an aesthetic score in its place");
    }
  }

  void refiner() {
    none(given_.refiner_start && !c_.refiner, "--refiner-start", " without --refiner");
    if (c_.requires_aesthetics_score || (c_.refiner && c_.refiner->requires_aesthetics_score)) return;
    const std::string reason = ": only Stable Diffusion XL's refiner is told a score";
    none(given_.aesthetic_score.has_value(), "--aesthetic-score", reason);
    none(given_.negative_aesthetic_score.has_value(), "--negative-aesthetic-score", reason);
  }

  const Request &given_, &filled_;
  const Checkpoint& c_;
  Faults& faults_;
};

}  // namespace

void refuse_without_effect(const Request& given, const Request& filled, const Checkpoint& c, const SamplerRow& sampler,
                           Faults& faults) {
  Effects(given, filled, c, faults).check();
  if (given.eta && !sampler.has_eta) faults.add("--eta has no effect: the sampler " + sampler.name + " has none");
}

}  // namespace easel
