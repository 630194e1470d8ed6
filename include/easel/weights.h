// weights: checkpoints as published → named tensors. Files are mapped, never copied whole; a tensor is converted when a
// network binds it. Names inside the program are diffusers' names.
#pragma once

#include <map>
#include <set>

#include "easel/core.h"
#include "easel/tensor.h"

namespace easel {

// ---- sources ------------------------------------------------------------------------------------------------------

struct TensorInfo {
  Shape shape;
  at::ScalarType dtype;
};

// A named collection of tensors: a file, several shards, a renamed view, random numbers. Immutable: may be used from
// several threads.
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  virtual std::vector<std::string> names() const = 0;
  virtual std::optional<TensorInfo> info(const std::string& name) const = 0;
  // The stored tensor, without a copy where the source can; of a mapped file it is read-only memory. Called only for
  // names with info().
  virtual Tensor load(const std::string& name) const = 0;
  // For a network that asks for `shape`: the stored tensor, whatever its shape; undefined where there is none. Sources
  // that make their tensors make this shape.
  virtual Tensor load(const std::string& name, at::IntArrayRef shape) const;
  // The pages behind a tensor that was converted are not needed again (madvise); default: nothing.
  virtual void drop_pages(const std::string& name) const { (void)name; }
  // The name that `name` has in the file, for messages.
  virtual std::string stored_name(const std::string& name) const { return name; }
  // The weights files that are read; empty for what is no file.
  virtual std::vector<std::filesystem::path> files() const { return {}; }
  // For messages: the file or folder the tensors come from.
  virtual std::string describe() const = 0;
};
using SourcePtr = std::shared_ptr<const WeightSource>;

// A safetensors file, mapped; its tensors keep the mapping alive. Header checked as the reference (the safetensors
// crate) does: size ≤ 100 MB and within the file, JSON object, known dtypes, shape × width equals the byte range, and
// the ranges cover the data without overlap, hole or rest; beyond it, duplicate names and unknown fields are refused.
// Eight-bit floats are known but load() refuses them. Throws Error(kFile) naming file and tensor.
SourcePtr open_safetensors(const std::filesystem::path& file);

// One part of a diffusers folder (`unet`, `vae`, `text_encoder`): the safetensors file `stem`.safetensors, its shards
// by `stem`.safetensors.index.json, or the `.fp16.` variant (used, with a note, when it is the only one; preferred when
// `prefer_half`). `.non_ema.` files are passed over. Throws Error(kFile) saying what was looked for and what is there.
SourcePtr open_part(const std::filesystem::path& folder, const std::string& stem, bool prefer_half);

// A view of `base` in which our name N is stored as map(N). Only our names are seen: what else is in `base` is for the
// caller to account for. Names that `base` lacks may be listed; they have no info().
SourcePtr renamed(SourcePtr base, std::vector<std::pair<std::string, std::string>> ours_to_stored);

// A view of `base` in which `prefix` ("text_model.") is taken off the names that begin with it; others keep their name,
// so files saved with and without the prefix look alike and no tensor is lost sight of. Throws Error(kFile) where two
// names become one.
SourcePtr without_prefix(SourcePtr base, const std::string& prefix);

// Seeded random numbers for any name and shape asked for: benchmarks and tests without files. The rule is that of
// scripts/golden/random_weights.py, which draws the same numbers in Python. `part` ("unet/") goes before each key. It
// has no names of its own, so a network's optional tensors are absent.
SourcePtr random_source(std::string part, uint32_t seed, at::ScalarType dtype);

// The rule itself: the float32 tensor of key ("unet/conv_in.weight") and shape.
Tensor random_weight(const std::string& key, at::IntArrayRef shape, uint32_t seed);

// Writes a safetensors file that appears whole or not at all, with the order of data (widest dtype first, then by name:
// every tensor aligned) and the metadata {"format": "pt"} of the reference's torch writer. Throws Error(kFile) with the
// system's reason.
void write_safetensors(const std::filesystem::path& file, const std::vector<std::pair<std::string, Tensor>>& tensors);

// ---- names --------------------------------------------------------------------------------------------------------

// The name of a tensor in an LDM single file of Stable Diffusion 1.x. `part`: unet, vae or text_encoder; `ours`: the
// diffusers key, or the published text encoder's with `text_model.`; `config`: the U-Net's or the VAE's config.json,
// for LDM numbers the blocks of all levels in one row.
std::string ldm_key(std::string_view part, const std::string& ours, const json& config);

// Accepts tensors that published files carry and no network reads: EMA copies, the training schedule's buffers,
// position_ids, CLIP's logit_scale and text_projection.
bool is_known_extra(const std::string& name);

// ---- binding ------------------------------------------------------------------------------------------------------

// What binding found: every tensor asked for, and what was wrong with it. Shared by all views of one part.
struct Binding {
  std::set<std::string> stored;        // the source's names
  std::map<std::string, Shape> asked;  // every name a network asked for, with the expected shape
  // A sentence each, in the order of asking. misfit: another shape, or a dtype that is no float.
  std::vector<std::string> missing, misfit, not_finite;
};

// A view {source, prefix, device, dtype} passed to network constructors: `w / "down_blocks" / 0`, `w.get("weight",
// {…})`. Faults are collected and raised together by finish(), so one run names every missing tensor; until then a
// meta tensor stands in for what is at fault. Views of one part share their Binding without a lock: build a part on one
// thread.
class Weights {
 public:
  // source may be null: then tensors are meta tensors and only Binding::asked is of interest (key lists without files).
  // On the meta device names and shapes are checked and no value is read.
  Weights(SourcePtr source, at::Device device, at::ScalarType dtype);

  Weights operator/(std::string_view name) const;
  Weights operator/(int64_t index) const;

  // The tensor `prefix.name`: shape checked, converted to dtype and device, finite or a fault; marked as used. Where
  // dtype and device fit it is the source's own memory, else the source's pages are dropped. A stored shape may have
  // further dimensions of 1: LDM's VAE keeps its linear layers [C, C] as 1x1 convolutions [C, C, 1, 1].
  Tensor get(std::string_view name, const Shape& shape) const;
  // Undefined tensor where the source does not have it.
  Tensor maybe(std::string_view name, const Shape& shape) const;
  // Whether the source has the tensor, or tensors below that name.
  bool has(std::string_view name) const;
  // The first of several stored names that exists (published files carry old spellings); the first when none does.
  Weights either(std::initializer_list<std::string_view> names) const;
  // The stored tensor's shape, for choices that only the file can settle.
  std::optional<Shape> stored_shape(std::string_view name) const;

  // Throws Error(kFile) listing every missing, misshapen and non-finite tensor, and every tensor of the source that
  // nothing asked for and `known_extra` does not accept; of each kind the first 20 and how many more there are.
  void finish(const std::string& part, const std::function<bool(const std::string&)>& known_extra) const;
  const Binding& binding() const { return *binding_; }

  at::Device device() const { return device_; }
  at::ScalarType dtype() const { return dtype_; }
  std::string path(std::string_view name) const;  // the full key

 private:
  Weights below(std::string prefix) const;
  std::optional<std::string> misfit(const TensorInfo& stored, const Shape& shape) const;
  Tensor convert(const std::string& key, const Tensor& stored) const;

  SourcePtr source_;
  std::string prefix_;
  at::Device device_;
  at::ScalarType dtype_;
  std::shared_ptr<Binding> binding_;
};

}  // namespace easel
