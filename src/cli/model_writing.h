// The forms in which convert writes a model.
#pragma once

#include "cli/model_files.h"

namespace easel::cli {

using Dtype = std::optional<at::ScalarType>;  // of floating-point tensors; as stored where not given

// Each writes `target` whole or not at all and throws Error(kFile): a disk that is full, a model that is not whole,
// tensors that have no place in the other form.

// All tensors under the names they have.
void write_same_names(const ModelFiles& model, const std::filesystem::path& target, Dtype dtype);
// A folder as one file with its family's names.
void write_single_file(const ModelFiles& model, const std::filesystem::path& target, Dtype dtype);
// A single file as a diffusers folder.
void write_folder(const ModelFiles& model, const std::filesystem::path& target, Dtype dtype);
// A folder as another: its parts' weights anew, everything else as it is.
void copy_folder(const ModelFiles& model, const std::filesystem::path& target, Dtype dtype);

}  // namespace easel::cli
