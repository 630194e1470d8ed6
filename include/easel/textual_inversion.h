// adapters: textual inversions (Gal et al. 2022, arXiv 2208.01618): words whose embeddings were learned.
#pragma once

#include "easel/core.h"
#include "easel/tensor.h"
#include "easel/weights.h"

namespace easel {

// The widths of a model's text encoders; 0 where it has none.
struct EncoderWidths {
  int64_t first = 0, second = 0;
};

// Vectors in place of a word, for each encoder that the model has: [n, width] float32, n the same.
struct TextualInversion {
  Tensor first, second;
  int64_t count() const { return (first.defined() ? first : second).size(0); }
};

// A file of AUTOMATIC1111 (`string_to_param`, `emb_params`), of diffusers (one tensor, its name the word) or for Stable
// Diffusion XL (`clip_l` and `clip_g`); .pt and .bin without running anything that is in them. Throws Error(kFile)
// naming the file: no textual inversion, for another family, of another width, with no or more than 75 vectors, values
// that are not finite.
TextualInversion read_textual_inversion(const std::filesystem::path& file, const EncoderWidths& widths);

// The textual inversions below a folder by their words, which are the file names without extension. Throws Error(kFile)
// for a folder that is not there and for two files of one name.
std::map<std::string, std::filesystem::path> textual_inversions_in(const std::filesystem::path& folder);

}  // namespace easel
