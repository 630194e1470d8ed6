// weights: checkpoints as published → named tensors. Files are mapped, never copied whole; a tensor is converted when a
// network binds it. Names inside the program are diffusers' names.
#pragma once

#include <map>
#include <mutex>
#include <set>

#include "easel/core.h"
#include "easel/tensor.h"

namespace easel {

struct TensorInfo {
  Shape shape;
  at::ScalarType dtype;
};

// A named collection of tensors: a file, several shards, a renamed view, random numbers, or shapes alone.
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  virtual std::vector<std::string> names() const = 0;
  virtual std::optional<TensorInfo> info(const std::string& name) const = 0;
  // The stored tensor, without a copy where the source can. Called only for names with info().
  virtual Tensor load(const std::string& name) const = 0;
  // The pages behind a tensor that was converted are not needed again (madvise); default: nothing.
  virtual void drop_pages(const std::string& name) const { (void)name; }
  // For messages: the file or folder the tensor came from.
  virtual std::string describe() const = 0;
};
using SourcePtr = std::shared_ptr<const WeightSource>;

// A safetensors file, mapped. Header checked: size ≤ 100 MB and within the file, JSON object, known dtypes, shape ×
// width equals the byte range, ranges inside the file, no overlaps, no duplicate names. Throws Error(kFile) naming file
// and tensor.
SourcePtr open_safetensors(const std::filesystem::path& file);

// One part of a diffusers folder (`unet`, `vae`, `text_encoder`): the safetensors file `stem`.safetensors, its shards
// by `stem`.safetensors.index.json, or the `.fp16.` variant (used, with a note, when it is the only one; preferred when
// `prefer_half`). `.non_ema.` files are passed over. Throws Error(kFile) saying what was looked for and what is there.
SourcePtr open_part(const std::filesystem::path& folder, const std::string& stem, bool prefer_half);

// A view of `base` in which our name N is stored as map(N). `names` lists ours.
SourcePtr renamed(SourcePtr base, std::vector<std::pair<std::string, std::string>> ours_to_stored);

// The sub-tree below `prefix` ("text_model."), or with a prefix added in front of each name.
SourcePtr without_prefix(SourcePtr base, const std::string& prefix);

// Seeded random numbers for any name and shape asked for: benchmarks and tests without files. The rule is that of
// scripts/golden/random_weights.py, which draws the same numbers in Python. `part` ("unet/") goes before each key.
SourcePtr random_source(std::string part, uint32_t seed, at::ScalarType dtype);

// The rule itself: the float32 tensor of key ("unet/conv_in.weight") and shape.
Tensor random_weight(const std::string& key, at::IntArrayRef shape, uint32_t seed);

// Writes a safetensors file (atomically): name → tensor, in name order.
void write_safetensors(const std::filesystem::path& file, const std::vector<std::pair<std::string, Tensor>>& tensors);

// What binding found: every tensor asked for, and what was wrong with it. Shared by all views of one part.
struct Binding {
  std::map<std::string, Shape> asked;  // every name a network asked for, with the expected shape
  std::vector<std::string> faults;     // missing and misshapen tensors, as sentences
};

// A view {source, prefix, device, dtype} passed to network constructors: `w / "down_blocks" / 0`, `w.get("weight",
// {…})`. Faults are collected and raised together by finish(), so one run names every missing tensor.
class Weights {
 public:
  // source may be null: then tensors are meta tensors and only Binding::asked is of interest (key lists without files).
  Weights(SourcePtr source, at::Device device, at::ScalarType dtype);

  Weights operator/(std::string_view name) const;
  Weights operator/(int64_t index) const;

  // The tensor `prefix.name`: shape checked, converted to dtype and device, finite or a fault; marked as used.
  Tensor get(std::string_view name, const Shape& shape) const;
  // Undefined tensor where the source does not have it.
  Tensor maybe(std::string_view name, const Shape& shape) const;
  bool has(std::string_view name) const;
  // The first of several stored names that exists (published files carry old spellings); the first when none does.
  Weights either(std::initializer_list<std::string_view> names) const;
  // The stored tensor's shape, for choices that only the file can settle (1x1 convolutions stored for linears).
  std::optional<Shape> stored_shape(std::string_view name) const;

  // Throws Error(kFile) listing every missing, misshapen and non-finite tensor, and every tensor of the source that
  // nothing asked for and `known_extra` does not accept.
  void finish(const std::string& part, const std::function<bool(const std::string&)>& known_extra) const;
  const Binding& binding() const { return *binding_; }

  at::Device device() const { return device_; }
  at::ScalarType dtype() const { return dtype_; }
  std::string path(std::string_view name) const;  // the full key

 private:
  SourcePtr source_;
  std::string prefix_;
  at::Device device_;
  at::ScalarType dtype_;
  std::shared_ptr<Binding> binding_;
};

}  // namespace easel
