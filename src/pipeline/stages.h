// The networks of one checkpoint in one precision, each loaded when it is first needed.
#pragma once

#include <future>

#include "pipeline/controls.h"
#include "pipeline/loras.h"

namespace easel {

// "unet": a part's folder, and its word in messages.
const char* name_of(Part part);

// The tensors of a part that no network reads, and that published files carry all the same.
std::function<bool(const std::string&)> unread_tensors(const Checkpoint& checkpoint, Part part);

class StageSet {
 public:
  StageSet(const Checkpoint& checkpoint, Precision precision) : checkpoint_(checkpoint), precision_(precision) {}
  StageSet(const StageSet&) = delete;

  // From now on the networks have these LoRAs in them, or beside their weights. Those that they change otherwise than
  // the ones before are freed, to be loaded again from the model's own bits.
  void use_loras(std::vector<OpenLora> loras, bool at_runtime);
  // ControlNets that are not among these are freed.
  void use_controls(const std::vector<ControlPtr>& controls);

  // Seconds spent in loading go to *seconds. `part` is one of the text encoders.
  const ClipTextEncoder& text_encoder(Part part, double* seconds);
  const XlmRobertaEncoder& multilingual(double* seconds);  // part kTextEncoder of an AltDiffusion checkpoint
  const UNet& unet(double* seconds);
  // Begins to load it on a thread of its own; unet() waits for it, and throws what that threw. Dropped with the U-Net,
  // and by other LoRAs.
  void load_unet_ahead();
  const ControlNet& control(const Control& control, double* seconds);  // one of those in use
  const VaeDecoder& vae_decoder(double* seconds);
  const VaeEncoder& vae_encoder(double* seconds);

  void free_text_encoders();
  void free_unet();  // and its ControlNets
  void free_vae_decoder() { vae_decoder_.reset(); }
  void free_vae_encoder() { vae_encoder_.reset(); }

  const Checkpoint& checkpoint() const { return checkpoint_; }
  const Precision& precision() const { return precision_; }
  bool is_loaded(Part part) const;
  // Of a part's weights that drawing needs, loaded or not; of the VAE its decoder.
  int64_t bytes_of(Part part);
  int64_t vae_encoder_bytes();
  int64_t control_bytes();  // of all ControlNets in use

  // By encoder, text and layer: a batch repeats its negative prompt, and often its prompts.
  std::map<std::tuple<Part, std::string, int64_t>, EncodedText> encoded;

 private:
  SourcePtr source_of(Part part) const;
  template <class Network, class Spec>
  Network load(Part part, at::ScalarType dtype, const Spec& spec) const;
  template <class Network, class Spec>
  const Network& loaded(std::optional<Network>& stage, Part part, at::ScalarType dtype, const Spec& spec,
                        double* seconds);
  void drop_unet_ahead();

  const Checkpoint& checkpoint_;
  Precision precision_;
  std::vector<OpenLora> loras_;
  bool loras_at_runtime_ = false;
  std::optional<ClipTextEncoder> text_encoder_, text_encoder_2_;
  std::optional<XlmRobertaEncoder> multilingual_;
  std::optional<UNet> unet_;
  std::map<ControlPtr, std::optional<ControlNet>> controls_;
  std::optional<VaeDecoder> vae_decoder_;
  std::optional<VaeEncoder> vae_encoder_;
  std::map<Part, int64_t> bytes_;
  std::future<UNet> unet_ahead_;  // the last member: it reads the others until it is done
};

// Every tensor of every part accounted for before one is read: throws Error(kFile) naming all that are missing,
// misshapen or unexpected. The VAE is one that is drawn with.
void audit(const Checkpoint& checkpoint, bool prefer_half);

// What a resolved request says of its sampler. Throws Error(kUsage) for lists that are no lists of numbers.
SamplerOptions sampler_options(const Request& resolved);
// The table's names for the request's sampler, which is set, and its schedule. Adds every fault.
void resolve_sampler(Request& request, bool sdxl, Faults& faults);

// The sampler of a request on its model, up to where the refiner begins, and from there on the refiner.
std::unique_ptr<Sampler> make_sampler(const Request& resolved, const Checkpoint& checkpoint);
std::unique_ptr<Sampler> make_refiner_sampler(const Request& resolved, const Checkpoint& refiner);

}  // namespace easel
