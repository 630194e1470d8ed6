// weights: checkpoints as published → named tensors. Files are mapped, never copied whole; a tensor is converted when a
// network binds it. Names inside the program are diffusers' names.
#pragma once

#include <map>
#include <set>

#include "easel/core.h"
#include "easel/runtime.h"
#include "easel/tensor.h"

namespace easel {

// ---- sources ------------------------------------------------------------------------------------------------------

struct TensorInfo {
  Shape shape;
  at::ScalarType dtype;
};

// A change of a layer's weight that is computed beside it: up·down·scale.
struct LowRank {
  Tensor down;  // [rank, in, …], the rest as the weight
  Tensor up;    // [out, rank]
  double scale = 1;
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
  // What a layer is to compute beside its weight, and the weight without it; load() has it in it.
  virtual std::vector<LowRank> beside(const std::string& name) const { return (void)name, std::vector<LowRank>(); }
  virtual Tensor load_unchanged(const std::string& name, at::IntArrayRef shape) const { return load(name, shape); }
  // The pages behind a tensor that was converted are not needed again (madvise); default: nothing.
  virtual void drop_pages(const std::string& name) const { (void)name; }
  // The name that `name` has in the file, for messages.
  virtual std::string stored_name(const std::string& name) const { return name; }
  // What a file says of itself in words: safetensors' `__metadata__`; of a torch file the numbers and words beside its
  // tensors ("global_step": "875000").
  virtual std::map<std::string, std::string> metadata() const { return {}; }
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

// A PyTorch checkpoint: the zip form and the stream that torch before 1.6 wrote, read by a closed list of opcodes and
// globals: nothing is run, anything else is refused by name. Of {"state_dict": {…}, …} the state dict's tensors alone,
// of other dicts all tensors by dotted keys ("string_to_param.*"). load() is contiguous: strided views are copied.
// Throws Error(kFile) naming file, byte or tensor.
SourcePtr open_torch_file(const std::filesystem::path& file);

// Either of the two, by its content; the name's extension says nothing. Throws Error(kFile).
SourcePtr open_weights_file(const std::filesystem::path& file);

// One part of a diffusers folder (`unet`, `vae`, `text_encoder`): the safetensors file `stem`.safetensors, its shards
// by `stem`.safetensors.index.json, or the `.fp16.` variant (used, with a note, when it is the only one; preferred when
// `prefer_half`); where there is none, the `.bin` file or its shards. `.non_ema.` files are passed over. Throws
// Error(kFile) saying what was looked for and what is there.
SourcePtr open_part(const std::filesystem::path& folder, const std::string& stem, bool prefer_half);

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

// Tensors held in memory, each name once.
SourcePtr tensor_source(const std::vector<std::pair<std::string, Tensor>>& tensors, std::string describe);

// All tensors of several sources. Throws Error(kFile) for a name that is in two of them.
SourcePtr joined(std::vector<SourcePtr> sources);

// The tensors of `base` that `keep` accepts.
SourcePtr filtered(SourcePtr base, const std::function<bool(const std::string&)>& keep);

using Metadata = std::map<std::string, std::string>;

// Writes a safetensors file that appears whole or not at all, with the order of data (widest dtype first, then by name:
// every tensor aligned) and the metadata {"format": "pt"} of the reference's torch writer, `more` beside it. Tensors
// are loaded, converted and written one at a time, and their pages dropped: memory holds the largest. `dtype`: of the
// floating-point tensors, as stored where it is not given. Throws Error(kFile) with the system's reason, and for a
// tensor with values beyond the dtype's range; Interrupted between tensors.
void write_safetensors(const std::filesystem::path& file, const WeightSource& tensors,
                       std::optional<at::ScalarType> dtype = {}, const Metadata& more = {});
void write_safetensors(const std::filesystem::path& file, const std::vector<std::pair<std::string, Tensor>>& tensors);

// ---- layouts: what a weights file is, and its names ---------------------------------------------------------------

enum class FileKind {
  kCheckpoint,  // a single file: U-Net and at least one part more
  kUNet,
  kVae,
  kTextEncoder,
  kLora,
  kTextualInversion,
  kControlNet,
  kOther,  // what Easel has no use for; FileIdentity::title names it where it is known
};

enum class Naming {
  kDiffusers,  // diffusers' and transformers' names
  kLdm,        // CompVis' latent-diffusion
  kOpenClip,   // OpenCLIP's text tower: q, k, v stacked in one tensor
  kTaesd,      // the author's files of TAESD, encoder and decoder each by itself: an nn.Sequential's numbers
};

// One part of a model in a file.
struct FilePart {
  std::string name;    // diffusers' folder: unet, vae, text_encoder, text_encoder_2
  std::string prefix;  // of its tensors in the file
  Naming naming;
};

struct FileIdentity {
  FileKind kind = FileKind::kOther;
  std::string title;            // "Stable Diffusion XL base, inpainting"
  std::string family;           // sd1, sd2, sdxl, sdxl-refiner; empty where names and shapes do not tell
  std::string spec;             // models/specs/NAME: the configs that the file lacks; empty with the family
  std::vector<FilePart> parts;  // of checkpoints, U-Nets, VAEs, text encoders and ControlNets ("controlnet")
  int64_t in_channels = 0;      // the U-Net's: 4, 9 (inpainting), 8 (instruct-pix2pix); 0: there is none
  std::string prediction;       // the U-Net's: eps, v; empty: there is none
  std::string prediction_reason;
  bool prediction_assumed = false;  // nothing in the file says so
  bool zero_snr = false;            // trained with zero terminal SNR (`ztsnr`)

  const FilePart* part(std::string_view name) const;  // null where the file lacks it
};

// From names, shapes and metadata, read in one table. No tensor is read but a number `global_step`.
FileIdentity identify(const WeightSource& file);

// A view of one part of a file under the names of its diffusers folder (text encoders with `text_model.`): LDM's names
// renamed, OpenCLIP's q, k, v split, its text_projection transposed, without a copy of what is large. `config`: the
// U-Net's, the VAE's or the ControlNet's config.json, for LDM numbers the blocks of all levels in one row. Tensors of
// the part that have no counterpart are seen under their stored names.
SourcePtr as_diffusers(SourcePtr file, const FilePart& part, const json& config);

// The other way: a part of a diffusers folder as it is stored in a single file. Throws Error(kFile) for tensors that
// have no name there.
SourcePtr as_single_file(SourcePtr folder_part, const FilePart& part, const json& config);

// The parts of a family's single file, in its own naming.
const std::vector<FilePart>& single_file_parts(std::string_view family);

// A single file cannot hold configs; those that `easel convert` writes carry the folder's in their metadata, as
// {"unet": {…}, "scheduler": {…}, "model_index": {…}, …}. Throws Error(kFile) when they are damaged.
inline constexpr const char* kConfigsKey = "easel.configs";
std::optional<json> embedded_configs(const WeightSource& file);

// Accepts tensors that published files carry and no network reads: EMA copies, the training schedule's buffers, an
// autoencoder's training losses, markers of the prediction type, position_ids, CLIP's logit_scale and text_projection.
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
// meta tensor stands in for what is at fault. Views of one part share their Binding and the way to the device without a
// lock: build a part on one thread.
class Weights {
 public:
  // source may be null: then tensors are meta tensors and only Binding::asked is of interest (key lists without files).
  // On the meta device names and shapes are checked and no value is read.
  Weights(SourcePtr source, at::Device device, at::ScalarType dtype);
  // The same for layers that are called many times: they pack their weights, where kernels() are the fast ones.
  Weights packed() const;
  // For layers that are called once or twice: those pack their weights that gain by it even so.
  Weights packed_where_quick() const;
  bool is_packed() const { return packing_ != Packing::kNone; }
  bool packs_slowly() const { return packing_ == Packing::kAll; }
  // The same for a network some of whose layers may compute in eight bits: those layers take int8() of their view.
  Weights allowing_int8() const;
  Weights int8() const;
  bool is_int8() const { return int8_; }
  // The pages behind a tensor that a layer has copied are not needed again.
  void drop_pages(std::string_view name) const;

  Weights operator/(std::string_view name) const;
  Weights operator/(int64_t index) const;

  // What becomes of float16 and bfloat16 that the source holds: converted like any other; kept, for layers whose
  // packing converts; kept and not looked at, for those whose packing does that, too, and says what it finds by
  // not_finite().
  enum class Halves { kConverted, kKept, kUnchecked };

  // The tensor `prefix.name`: shape checked, converted to dtype and device, finite or a fault; marked as used. Where
  // dtype and device fit it is the source's own memory, else the source's pages are dropped. A stored shape may have
  // further dimensions of 1: LDM's VAE keeps its linear layers [C, C] as 1x1 convolutions [C, C, 1, 1].
  Tensor get(std::string_view name, const Shape& shape, Halves halves = Halves::kConverted) const;
  // For a layer that computes changes beside its weight.
  Tensor get(std::string_view name, const Shape& shape, std::vector<LowRank>& beside,
             Halves halves = Halves::kConverted) const;
  void not_finite(std::string_view name) const;
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
  enum class Packing { kNone, kQuick, kAll };
  Weights below(std::string prefix) const;
  bool packable() const;
  Tensor bound(const std::string& key, const Shape& shape, bool changed, Halves halves) const;
  std::optional<std::string> misfit(const TensorInfo& stored, const Shape& shape) const;
  void add_not_finite(const std::string& key, const std::string& what) const;
  Tensor convert(const std::string& key, const Tensor& stored, Halves halves) const;

  SourcePtr source_;
  std::string prefix_;
  at::Device device_;
  at::ScalarType dtype_;
  Packing packing_ = Packing::kNone;
  bool allows_int8_ = false, int8_ = false;
  std::shared_ptr<Binding> binding_;
  std::shared_ptr<DeviceUpload> upload_;
};

}  // namespace easel
