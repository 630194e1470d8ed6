// pipeline: a checkpoint as published + a request → a picture. The only room that knows which parts make a model
// family.
#pragma once

#include <variant>

#include "easel/diffusion.h"
#include "easel/image.h"
#include "easel/runtime.h"
#include "easel/text.h"
#include "easel/unet.h"
#include "easel/vae.h"

namespace easel {

// ---- requests -----------------------------------------------------------------------------------------------------

// Everything that defines one picture. An unset field was not given; resolve() fills it: flag > job line > command-line
// default > the model's easel.json > family spec > table.
struct Request {
  std::optional<std::string> prompt;
  std::optional<std::string> negative_prompt;  // unset and "" are different requests on SDXL
  std::optional<int64_t> width, height;        // pixels
  std::optional<uint64_t> seed;
  std::optional<int64_t> steps;
  std::optional<double> cfg_scale;     // ≤ 1: no guidance
  std::optional<std::string> sampler;  // any spelling; resolved: the table's name
  std::optional<double> eta;
  std::optional<std::string> prediction;     // eps, v, x0
  std::optional<int64_t> clip_skip;          // counted from the end of the encoder; 1: its last layer
  std::optional<std::string> model;          // folder or file
  std::optional<std::string> device;         // auto, cpu, cuda, cuda:N
  std::optional<std::string> dtype;          // auto, f32, f16, bf16
  std::optional<std::string> prompt_syntax;  // raw
};

// One row drives the command line, JSON objects, prompt-file flags and the PNG's metadata.
struct RequestField {
  using Member = std::variant<std::optional<std::string> Request::*, std::optional<int64_t> Request::*,
                              std::optional<uint64_t> Request::*, std::optional<double> Request::*>;
  std::string name;                       // JSON key; the long flag is this with '-' for '_'
  std::string flags;                      // CLI11's notation: "-W,--width"
  std::vector<std::string> aliases = {};  // other JSON keys: "guidance_scale"
  Member member;
  double low = 0, high = 0;             // of numbers, inclusive
  int64_t multiple_of = 1;              // of whole numbers
  std::vector<std::string> words = {};  // the only texts allowed; empty: any
  std::string value_name;               // "N", for help
  std::string help;                     // one line, default included
};

const std::vector<RequestField>& request_fields();
// By name or alias; null when unknown.
const RequestField* find_request_field(std::string_view name);

// The value of one field from text as typed (strict: "20x", " 20", "1e3" for a whole number are faults) or from JSON
// (numbers; a seed may be text too). Adds to `faults` a sentence that names `spelled` ("--steps"), the value and what
// was expected; the field then stays as it was. Text must be valid UTF-8.
void set_from_text(Request& request, const RequestField& field, std::string_view text, const std::string& spelled,
                   Faults& faults);
void set_from_json(Request& request, const RequestField& field, const json& value, const std::string& spelled,
                   Faults& faults);

// The fields that are set, in table order.
nlohmann::ordered_json to_json(const Request& request);

// ---- checkpoints --------------------------------------------------------------------------------------------------

// One row a family: which published forms are this family, what its spec folder is called, what a picture needs.
struct FamilyRow {
  std::string name;                           // "sd1"
  std::string title;                          // "Stable Diffusion 1.x"
  std::string spec_folder;                    // models/specs/<this>: the configs single files lack
  std::vector<std::string> pipeline_classes;  // model_index.json's _class_name
  double cfg_scale;                           // defaults
  int64_t steps;
};
const std::vector<FamilyRow>& family_table();

// A checkpoint that was opened: configs are read and checked, weights are not.
struct Checkpoint {
  std::filesystem::path path;
  const FamilyRow* family = nullptr;
  ClipTextSpec text_encoder;
  UNetSpec unet;
  VaeSpec vae;
  json unet_config, vae_config;  // as read; the names in a single file follow from them
  SchedulerConfig scheduler;
  std::filesystem::path tokenizer_folder;
  Request own_defaults;   // easel.json: {steps, sampler, cfg_scale, …}
  SourcePtr single_file;  // null for a folder

  int64_t native_width() const { return unet.sample_width * vae.factor(); }
  int64_t native_height() const { return unet.sample_height * vae.factor(); }
  std::string name() const;  // file or folder name without extension
};

// A diffusers folder or an LDM single file. Throws Error(kFile) with every fault: nothing there, no model_index.json, a
// family or a config that is not supported (by name), parts that do not fit together.
Checkpoint open_checkpoint(const std::filesystem::path& path);

enum class Part { kTextEncoder, kUNet, kVae };

// The tensors of one part under diffusers' names, whatever form they are published in (the text encoder's without
// `text_model.`). `prefer_half` chooses `.fp16.` files where both are there.
SourcePtr open_weights(const Checkpoint& checkpoint, Part part, bool prefer_half);

// The folder with specs/ and the bundled models: $EASEL_MODELS, else where the program was built.
std::filesystem::path models_folder();
inline constexpr const char* kBundledModel = "easel-tiny";
// A path as given, or the name of a bundled model.
std::filesystem::path find_model(const std::string& model);

// SHA-256 over the weights files that a run reads: of a single file its own; of a folder the hash of its sorted
// "path, hash" lines. Cached by path, size and modification time. 64 hex digits.
std::string model_hash(const Checkpoint& checkpoint, bool prefer_half);

// ---- resolving ----------------------------------------------------------------------------------------------------

// Fills every field: from easel.json, the family, the checkpoint, the table. Throws Error(kUsage) with every fault that
// needs the checkpoint to be seen (clip_skip beyond the encoder, an eta the sampler does not have, a negative prompt
// without guidance, sizes the VAE cannot make, steps the schedule cannot take) and Error(kFile) for schedulers that are
// not supported. `seed` must be set.
Request resolve(const Request& request, const Checkpoint& checkpoint, const Precision& precision);

// ---- pictures -----------------------------------------------------------------------------------------------------

struct Timings {
  double load = 0, encode = 0, sample = 0, decode = 0;  // seconds
};

struct Picture {
  Image image;
  Tensor latent;        // [1, L, H/F, W/F] float32 on the CPU, scaled
  Precision precision;  // what it was made with: float32 after a retry
  Timings timings;
};

// Called after every network call: which one of how many.
using OnProgress = std::function<void(int done, int total)>;

// A checkpoint's networks, loaded when they are first needed and kept for the next picture.
class Pipeline {
 public:
  Pipeline(Checkpoint checkpoint, Precision precision);
  ~Pipeline();

  // `request` is resolved. Not concurrent. Throws Error(kPicture) when values are not finite even in float32,
  // Error(kFile) for weights that are missing, misshapen or damaged, Interrupted between steps.
  Picture generate(const Request& request, const OnProgress& on_progress = {});

  const Checkpoint& checkpoint() const;
  const Precision& precision() const;

 private:
  struct Stages;
  std::unique_ptr<Stages> stages_;
};

// ---- metadata -----------------------------------------------------------------------------------------------------

// The PNG's texts: A1111's `parameters` and, under `easel`, the exact resolved request as JSON with model_hash and
// versions.
std::vector<PngText> png_texts(const Request& resolved, const std::string& model_hash, const Checkpoint& checkpoint);

}  // namespace easel
