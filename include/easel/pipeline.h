// pipeline: a checkpoint as published + a request → a picture. The only room that knows which parts make a model
// family.
#pragma once

#include <mutex>
#include <variant>

#include "easel/diffusion.h"
#include "easel/image.h"
#include "easel/lora.h"
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
  std::optional<std::string> negative_prompt;              // unset and "" are different requests on SDXL
  std::optional<std::string> prompt_2, negative_prompt_2;  // for SDXL's second text encoder; unset: the same text
  std::optional<int64_t> width, height;                    // pixels
  std::optional<uint64_t> seed;
  std::optional<int64_t> steps;
  std::optional<double> cfg_scale;               // ≤ 1: no guidance
  std::optional<double> cfg_rescale;             // 0 … 1
  std::optional<double> cfg_start, cfg_end;      // guidance from this share of the steps to that one
  std::optional<std::string> sampler;            // any spelling; resolved: the table's name
  std::optional<std::string> scheduler;          // of the noise levels; any spelling; resolved: the table's name
  std::optional<std::string> sigmas, timesteps;  // explicit lists, "14.6,7,0"
  std::optional<double> eta;
  std::optional<std::string> prediction;  // eps, v, x0
  std::optional<int64_t> clip_skip;       // counted from the end of the full encoder; 1: its last layer
  // SDXL's conditions: sizes as "WIDTHxHEIGHT", the crop's corner as "LEFT,TOP".
  std::optional<std::string> original_size, crop, target_size;
  std::optional<double> aesthetic_score, negative_aesthetic_score;  // of refiners
  std::optional<std::string> model;                                 // folder or file
  std::optional<std::string> vae, refiner;                          // folder or file
  std::optional<double> refiner_start;                              // share of the schedule that the base model takes
  std::optional<std::string> device;                                // auto, cpu, cuda, cuda:N
  std::optional<std::string> dtype;                                 // auto, f32, f16, bf16
  std::optional<std::string> prompt_syntax;                         // raw, a1111; in a stored request unset is raw
  std::optional<std::string> prompt_weighting;                      // a1111, compel
  std::optional<std::string> embd_dir;                              // folder of textual inversions
  std::optional<std::vector<std::string>> lora;                     // "FILE[:w[:te]]"
  std::optional<std::string> lora_dir;                              // folder of <lora:name:w>
  std::optional<std::string> lora_apply;                            // at-load, at-runtime
  std::optional<bool> lora_partial;                                 // leave out what the model has no place for

  // ControlNets, each with its picture, strength and share of the steps, in one order.
  std::optional<std::vector<std::string>> control_net, control_image;  // folders or files; pictures
  std::optional<std::vector<double>> control_strength, control_start, control_end;
  std::optional<bool> control_guess;             // look at the picture alone: only the conditional half is controlled
  std::optional<bool> canny;                     // control pictures are photographs, whose edges are shown
  std::optional<int64_t> canny_low, canny_high;  // thresholds

  // A picture to begin with, and what is kept of it.
  std::optional<std::string> init_img, mask;  // files
  std::optional<double> strength;             // share of the steps: 1 keeps nothing but the size
  std::optional<std::string> resize;          // fit, fill, stretch: where width and height differ from the picture's
  std::optional<bool> invert_mask;
  std::optional<double> mask_blur;         // sigma in pixels
  std::optional<bool> inpaint_full_res;    // repaint in a crop around the mask
  std::optional<int64_t> inpaint_padding;  // pixels around it
  std::optional<bool> no_paste_back;       // leave the repainted picture as the VAE gives it
  std::optional<std::string> outpaint;     // "L,T,R,B" in pixels or percent
  // A second pass at a larger size.
  std::optional<double> hires;  // how many times larger
  std::optional<std::string> hires_upscaler;
  std::optional<int64_t> hires_steps;
  std::optional<double> hires_strength;
  std::optional<bool> vae_tiling, vae_tiling_fast;
  std::optional<std::string> cache;  // "deepcache:N[:B]"; unset: every step computes everything

  bool repaints() const { return mask || outpaint; }
};

enum class TextForm { kAny, kSize, kPoint, kMargins };  // "1024x768", "0,128", "64,0,25%,0"

// The numbers of a kSize (width, height) or kPoint (left, top) text; nullopt for any other text.
std::optional<std::pair<int64_t, int64_t>> number_pair(std::string_view text, TextForm form);

// One row drives the command line, JSON objects, prompt-file flags and the PNG's metadata.
struct RequestField {
  using Member = std::variant<std::optional<std::string> Request::*, std::optional<int64_t> Request::*,
                              std::optional<uint64_t> Request::*, std::optional<double> Request::*,
                              std::optional<bool> Request::*,  // a switch, without a value on command lines
                              std::optional<std::vector<std::string>> Request::*,  // lists: flags that may be repeated,
                              std::optional<std::vector<double>> Request::*>;      // in JSON arrays or a single value
  std::string name;                       // JSON key; the long flag is this with '-' for '_'
  std::string flags;                      // CLI11's notation: "-W,--width"
  std::vector<std::string> aliases = {};  // other JSON keys: "guidance_scale"
  Member member;
  double low = 0, high = 0;             // of numbers, inclusive
  int64_t multiple_of = 1;              // of whole numbers
  std::vector<std::string> words = {};  // the only texts allowed; empty: any
  TextForm form = TextForm::kAny;
  bool is_path = false;         // a file or folder; in a job file relative to that
  std::string value_name = {};  // "N", for help; empty for switches
  std::string help;             // one line, default included

  bool is_switch() const { return std::holds_alternative<std::optional<bool> Request::*>(member); }
  bool is_list() const {
    return std::holds_alternative<std::optional<std::vector<std::string>> Request::*>(member) ||
           std::holds_alternative<std::optional<std::vector<double>> Request::*>(member);
  }
};

const std::vector<RequestField>& request_fields();
// By name or alias; null when unknown.
const RequestField* find_request_field(std::string_view name);

// The value of one field from text as typed (strict: "20x", " 20", "1e3" for a whole number are faults) or from JSON
// (numbers; a seed may be text too; a switch is true or false). Text is appended to a list, JSON replaces it. Adds to
// `faults` a sentence that names `spelled` ("--steps"), the value and what was expected; the field then stays as it
// was. Text must be valid UTF-8.
void set_from_text(Request& request, const RequestField& field, std::string_view text, const std::string& spelled,
                   Faults& faults);
void set_from_json(Request& request, const RequestField& field, const json& value, const std::string& spelled,
                   Faults& faults);

// The fields that are set, in table order.
nlohmann::ordered_json to_json(const Request& request);

// ---- checkpoints --------------------------------------------------------------------------------------------------

// One row a family: what a picture needs when neither the request nor the model says it. Which family a checkpoint is
// follows from its parts; the pipeline's class name only says that it is one of these.
struct FamilyRow {
  std::string name;                           // "sd1"
  std::string title;                          // "Stable Diffusion 1.x"
  std::string spec_folder;                    // models/specs/<this>, of its plainest form
  std::vector<std::string> pipeline_classes;  // model_index.json's _class_name
  double cfg_scale;                           // defaults
  int64_t steps;
};
const std::vector<FamilyRow>& family_table();

// A text encoder and the tokenizer in front of it.
struct TextPart {
  ClipTextSpec spec;
  std::filesystem::path tokenizer_folder;
  std::filesystem::path tokenizer_config;  // in place of the folder's own; empty: the folder's own

  // Read when it is first asked for, and shared by all copies. Throws Error(kFile).
  std::shared_ptr<const ClipTokenizer> tokenizer() const;
  mutable std::shared_ptr<const ClipTokenizer> read_tokenizer = nullptr;
};

// AltDiffusion's: XLM-R in the text encoder's place.
struct MultilingualPart {
  XlmRobertaSpec spec;
  std::filesystem::path tokenizer_folder;

  std::shared_ptr<const XlmRobertaTokenizer> tokenizer() const;  // as of TextPart
  mutable std::shared_ptr<const XlmRobertaTokenizer> read_tokenizer = nullptr;
};

struct PixelModel;  // src/pipeline/pixel_model.h

class EmbeddingFolder;  // src/pipeline/embeddings.h
struct Control;         // src/pipeline/controls.h

// Adapters that were opened for a checkpoint.
struct OpenAdapters {
  std::mutex opening;
  std::map<std::string, std::shared_ptr<EmbeddingFolder>> embeddings;  // by folder
  std::vector<LoraTarget> targets;                                     // once a LoRA was opened
  std::vector<std::pair<std::shared_ptr<const Lora>, bool>> loras;     // and whether partially; the last few
  std::map<std::string, std::shared_ptr<const Control>> controls;      // by path
};

// A VAE in place of the checkpoint's own: a diffusers part folder, or one part of a file.
struct OtherVae {
  std::filesystem::path path;  // as given
  std::filesystem::path folder;
  SourcePtr file;  // null for a folder
  FilePart part;
};

// A checkpoint that was opened: configs are read and checked, weights are not.
struct Checkpoint {
  std::filesystem::path path;
  const FamilyRow* family = nullptr;
  std::optional<TextPart> text_encoder, text_encoder_2;  // a refiner has the second alone
  std::optional<MultilingualPart> multilingual;          // in text_encoder's place
  std::shared_ptr<const PixelModel> pixel;  // a DDPM of pixels: it has no text, no VAE, and `unet` is unset
  UNetSpec unet;
  VaeSpec vae;
  json unet_config, vae_config;  // as read; the names in a single file follow from them
  SchedulerConfig scheduler;
  // SDXL's: without a negative prompt the unconditional half is zeros, not an encoded "".
  bool force_zeros_for_empty_prompt = false;
  bool requires_aesthetics_score = false;  // its time ids end in a score, not in the target size
  Request own_defaults;                    // easel.json: {steps, sampler, cfg_scale, …}
  SourcePtr single_file;                   // null for a folder
  FileIdentity identity;                   // of the single file
  std::optional<OtherVae> other_vae;
  std::shared_ptr<const Checkpoint> refiner;
  std::shared_ptr<OpenAdapters> adapters = std::make_shared<OpenAdapters>();  // shared by copies

  int64_t native_width() const { return unet.sample_width * vae.factor(); }
  int64_t native_height() const { return unet.sample_height * vae.factor(); }
  std::string name() const;  // file or folder name without extension

  bool is_sdxl() const { return unet.text_time.has_value(); }
  // Inpainting and instruct-pix2pix U-Nets take a picture beside the noise.
  bool takes_picture() const { return unet.in_channels != vae.latent_channels; }
  // Inpainting ones take a mask and the masked picture's latent.
  bool is_inpainting() const { return unet.in_channels == 2 * vae.latent_channels + 1; }
  // How many of the full encoder's last layers the checkpoint lacks: published SD2 folders hold 23 of 24.
  int64_t layers_left_out() const;
  // The layer that the family takes, counted from the end of the full encoder.
  int64_t own_clip_skip() const { return is_sdxl() ? 2 : 1 + layers_left_out(); }
  // Guidance is a second half of the batch, unless the U-Net was distilled with it built in.
  bool is_guided(double cfg_scale) const { return cfg_scale > 1 && unet.time_cond_proj_dim == 0; }
};

// A diffusers folder or a single file. Throws Error(kFile) with every fault: nothing there, no model_index.json, a
// family, a kind of file or a config that is not supported (by name), parts that do not fit together.
Checkpoint open_checkpoint(const std::filesystem::path& path);

// Whether this is a model that takes no prompt. Looks at model_index.json alone; false where that cannot be read.
bool draws_without_prompt(const std::filesystem::path& path);

// A VAE folder, a VAE file, or another checkpoint, whose VAE is taken. A file without a config is read with the
// checkpoint's own, its scaling factor included. Throws Error(kFile).
void use_vae(Checkpoint& checkpoint, const std::filesystem::path& path);
// Throws Error(kFile) when the two do not share their latents.
void use_refiner(Checkpoint& checkpoint, const std::filesystem::path& path);
// The request's model, with its VAE and its refiner.
Checkpoint open_models(const Request& request);

// A JSON object from a config file. Throws Error(kFile).
json read_json(const std::filesystem::path& file);

enum class Part { kTextEncoder, kTextEncoder2, kUNet, kVae };
// Those that the checkpoint has.
std::vector<Part> parts_of(const Checkpoint& checkpoint);

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
struct ModelHashes {
  std::string model;
  std::string vae, refiner;  // of --vae and --refiner; empty where there is none
  // Of a request's LoRAs and ControlNets, by file or folder name without extension.
  std::map<std::string, std::string> loras = {}, controls = {};
};
ModelHashes model_hashes(const Checkpoint& checkpoint, bool prefer_half);  // of the models alone
// "canny" of folder/canny.safetensors and of the folder canny/.
std::string adapter_name(const std::filesystem::path& path);
// Those of the request's adapters are filled in.
void add_adapter_hashes(ModelHashes& hashes, const Request& resolved);

// ---- resolving ----------------------------------------------------------------------------------------------------

// Fills every field: from easel.json, the family, the checkpoint, the table. Throws Error(kUsage) with every fault that
// needs the checkpoint to be seen (clip_skip beyond the encoder, sizes the VAE cannot make, steps the schedule cannot
// take, fields without effect, a model that needs a picture) and Error(kFile) for schedulers that are not supported and
// for pictures that cannot be read (their sizes are).
// `prompt` and `seed` must be set. With `notes`, as for the lines of a batch, fields without effect are left out and
// told there.
Request resolve(const Request& request, const Checkpoint& checkpoint, const Precision& precision,
                std::vector<std::string>* notes = nullptr);

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

// What came of one picture of a pack.
using Outcome = std::variant<Picture, Error>;

// Equal for resolved requests that can go through the networks of `checkpoint` together: one size, one sampler with its
// schedule and steps, guidance on or off. Texts, seeds, guidance scales and the pictures they begin with may differ.
std::string pack_key(const Request& resolved, const Checkpoint& checkpoint);

// Called after every network call: which one of how many.
using OnProgress = std::function<void(int done, int total)>;

// The reverse process as it was gone: what the network was shown and what it took the picture for.
struct Trajectory {
  int64_t every = 1;  // of the network calls; the last one is always there
  std::vector<LabelledImage> noisy = {},
                             predicted = {};  // x_t in the scale the network sees, and x_0, decoded: "t 981"
};

// A checkpoint's networks, loaded when they are first needed and kept for the next picture; where memory does not
// suffice for all of them, each is freed when it is done.
class Pipeline {
 public:
  // `memory`: the bytes that may be used at once; what is available when it is not given. A VAE that says force_upcast
  // is computed in float32 in place of float16.
  Pipeline(Checkpoint checkpoint, Precision precision, std::optional<int64_t> memory = {});
  ~Pipeline();

  // Resolved requests of one pack_key(), through the networks together: each picture is what it would be alone, up to
  // rounding. Not concurrent. Throws Error(kMemory) before the first step when the picture cannot fit,
  // Error(kFile) for pictures that cannot be read and weights that are missing, misshapen or
  // damaged, Interrupted between steps. A picture whose values are not finite even in float32 is an Error(kPicture) in
  // its place. `trajectory`, if given, is filled from a pack of one.
  std::vector<Outcome> generate(const std::vector<Request>& pack, const OnProgress& on_progress = {},
                                Trajectory* trajectory = nullptr);
  // A pack of one; throws its Error.
  Picture generate(const Request& request, const OnProgress& on_progress = {}, Trajectory* trajectory = nullptr);

  // Seconds of one U-Net call for so many pictures like `resolved`, after one that is not counted; nullopt where memory
  // does not suffice for so many.
  std::optional<double> seconds_of_call(const Request& resolved, int64_t pictures);

  const Checkpoint& checkpoint() const;
  const Precision& precision() const;
  // The networks in memory: "unet", "refiner's unet".
  std::vector<std::string> loaded() const;

 private:
  struct Stages;
  std::unique_ptr<Stages> stages_;
};

// ---- the forward process ------------------------------------------------------------------------------------------

struct ForwardOptions {
  std::vector<int64_t> timesteps;  // 0 … num_train_timesteps − 1
  uint64_t seed = 0;
  bool latent = false;  // noise the model's latent of the picture, and decode it
};

// DDPM's forward process on a picture by a checkpoint's schedule (Ho et al. 2020, eq. 4), one noise for all timesteps.
// Throws Error(kUsage) for timesteps the schedule does not have, and for sides the VAE cannot take.
std::vector<LabelledImage> forward_process(const Checkpoint& checkpoint, const Precision& precision,
                                           const Image& picture, const ForwardOptions& options);

// ---- metadata -----------------------------------------------------------------------------------------------------

// The PNG's texts: A1111's `parameters` and, under `easel`, the exact resolved request as JSON with model_hash (and
// vae_hash, refiner_hash) and versions.
std::vector<PngText> png_texts(const Request& resolved, const ModelHashes& hashes, const Checkpoint& checkpoint);

}  // namespace easel
