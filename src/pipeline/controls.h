// The ControlNets of a request: opened and matched with its checkpoint, and what they add to a U-Net's calls.
#pragma once

#include "easel/controlnet.h"
#include "easel/pipeline.h"

namespace easel {

// One that was opened: its config is read and its tensors are compared, its weights are not loaded.
struct Control {
  std::filesystem::path path;  // as given
  ControlNetSpec spec;
  json config;
  SourcePtr file;      // null for a folder
  FilePart part;       // of the file
  int64_t values = 0;  // of all its tensors
};
using ControlPtr = std::shared_ptr<const Control>;

// Under diffusers' names.
SourcePtr open_weights(const Control& control, bool prefer_half);

// A diffusers folder, or a file in diffusers' or the original layout, which takes its settings from the config.json
// beside it or from the checkpoint's U-Net. Opened ones are remembered by the checkpoint. Throws Error(kFile) for what
// is no ControlNet, is one of another family, or lacks tensors.
std::vector<ControlPtr> open_controls(const Request& request, const Checkpoint& checkpoint);

// Strengths, starts and ends of all of them, thresholds; adds every fault of the --control flags.
void fill_controls(Request& request, Faults& faults);

// Notes, once each, control pictures that have another size than the picture. Throws Error(kFile).
void tell_of_control_sizes(const Request& resolved);

// The control pictures of a resolved request as they are in their files. Throws Error(kFile).
std::vector<Image> read_control_pictures(const Request& resolved);

// What a ControlNet is shown: [1, 3, height, width] float32 in [0, 1], as diffusers' control_image_processor makes it;
// with
// --canny the edges of the picture, found at that size.
Tensor control_pixels(const Image& picture, const Request& resolved, int width, int height);

}  // namespace easel
