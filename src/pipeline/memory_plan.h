// How much memory a picture takes, known before the first step, and which networks are freed for it.
#pragma once

#include "pipeline/stages.h"

namespace easel {

// A network at work: its weights, and what it computes with beside them. In the order of the work.
struct MemoryPhase {
  enum class Kind { kText, kEncoder, kUNet, kVae };
  Kind kind;
  std::string name;  // "the U-Net"
  int64_t weights, activations;
  int64_t in_strips = -1;  // activations when it works strip by strip; −1 where it cannot
};

struct MemoryPlan {
  bool free_text = false;  // after the text is encoded; the VAE's encoder too
  bool free_unet = false;  // after its last step
  bool strips = false;     // the VAE works strip by strip
  int64_t peak = 0;        // bytes
  std::string largest;     // the phase at the peak
};

// Keeps as much for the next picture as fits into `available`; when nothing fits, the plan that frees all. Strips are
// the last resort, unless they are asked for.
MemoryPlan plan_memory(const std::vector<MemoryPhase>& phases, int64_t available, bool strips = false);

// Estimates from below: what they say does not fit would not have fitted.
// `pictures` go through the U-Net at once; VAE and text encoders take one after the other.
std::vector<MemoryPhase> memory_phases(const Request& resolved, StageSet& nets, StageSet* refiner,
                                       int64_t pictures = 1);

// Bytes that the networks of a picture may fill, those that are loaded included.
int64_t usable_memory(StageSet& nets, StageSet* refiner);

// The plan of one picture, said at -v. Throws Error(kMemory) with the numbers when nothing fits.
MemoryPlan check_memory(const Request& resolved, const std::vector<MemoryPhase>& phases, int64_t available,
                        int64_t pictures = 1);

}  // namespace easel
