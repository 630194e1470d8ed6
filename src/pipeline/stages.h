// The networks of one checkpoint in one precision, each loaded when it is first needed.
#pragma once

#include "easel/pipeline.h"

namespace easel {

class StageSet {
 public:
  StageSet(const Checkpoint& checkpoint, Precision precision) : checkpoint_(checkpoint), precision_(precision) {}

  // Seconds spent in loading go to *seconds.
  const ClipTextEncoder& text_encoder(double* seconds);
  const UNet& unet(double* seconds);
  const VaeDecoder& vae_decoder(double* seconds);

  const Precision& precision() const { return precision_; }

  // Of the stages that a picture still needs.
  int64_t bytes_to_load() const;

  // Hidden states by prompt and clip skip; a batch repeats its negative prompt, and often its prompts.
  std::map<std::pair<std::string, int64_t>, Tensor> encoded;

 private:
  template <class Network, class Spec>
  const Network& loaded(std::optional<Network>& stage, Part part, at::ScalarType dtype, const Spec& spec,
                        double* seconds);

  const Checkpoint& checkpoint_;
  Precision precision_;
  std::optional<ClipTextEncoder> text_encoder_;
  std::optional<UNet> unet_;
  std::optional<VaeDecoder> vae_decoder_;
};

// "unet": a part's folder, and its word in messages.
const char* name_of(Part part);

// The stored names behind one part of a single file.
std::vector<std::string> stored_names(const Checkpoint& checkpoint, Part part);

// Every tensor of every part accounted for before one is read: throws Error(kFile) naming all that are missing,
// misshapen or unexpected.
void audit(const Checkpoint& checkpoint, bool prefer_half);

// Throws Error(kMemory) with both numbers when the picture cannot fit beside what is loaded. An estimate from below:
// what it refuses would not have fitted.
void check_memory(const Checkpoint& checkpoint, const Request& resolved, const Precision& precision,
                  int64_t bytes_to_load);

std::unique_ptr<Sampler> make_sampler(const Request& resolved, const Checkpoint& checkpoint);

}  // namespace easel
