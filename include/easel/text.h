// text: CLIP's tokenizer and text encoder, and the conditioning made of them.
#pragma once

#include "easel/core.h"
#include "easel/tensor.h"
#include "easel/weights.h"

namespace easel {

// ---- tokenizer ----------------------------------------------------------------------------------------------------

struct TokenizedPrompt {
  std::vector<int64_t> ids;  // exactly max_length: <|startoftext|>, text, <|endoftext|>, padding
  std::string cut;           // the text that did not fit, decoded; empty when nothing was cut
  int64_t cut_length = 0;    // how many ids that was (their text can be blank)
  int64_t length = 0;        // ids before padding, both specials counted
};

// CLIP's byte-level BPE as Hugging Face's fast CLIPTokenizer (transformers 5.23, tokenizers 0.23) does it: NFC,
// whitespace runs to one blank, lower case, split by contractions, letters, single digits, others. Special tokens
// inside the text are recognised; whether in capitals too, and that "!" gives the padding id where it is the pad token
// (SDXL's second tokenizer), follows from the folder's files as in the reference. Immutable: may be used from several
// threads.
class ClipTokenizer {
 public:
  // From a checkpoint's tokenizer folder: tokenizer.json, or else vocab.json + merges.txt; tokenizer_config.json,
  // special_tokens_map.json and added_tokens.json give special and added tokens and model_max_length (77 if they name
  // none or "no limit"). Throws Error(kFile) with the file, the place in it, expected and got.
  static ClipTokenizer from_folder(const std::filesystem::path& folder);

  ~ClipTokenizer();
  ClipTokenizer(ClipTokenizer&&) noexcept;
  ClipTokenizer& operator=(ClipTokenizer&&) noexcept;

  // Token ids without specials or padding, uncut. Throws Error(kUsage) on invalid UTF-8, saying at which byte.
  std::vector<int64_t> encode(std::string_view text) const;
  // With specials, truncated and padded to max_length() (77), as the diffusers pipelines call it.
  TokenizedPrompt tokenize(std::string_view prompt) const;

  // Readable text, as the reference's decode(): bytes that are no UTF-8 become U+FFFD, ids out of range are left out.
  std::string decode(const std::vector<int64_t>& ids) const;
  int64_t max_length() const;
  int64_t bos_id() const;
  int64_t eos_id() const;
  int64_t pad_id() const;
  int64_t vocab_size() const;  // one past the largest id, added tokens counted: the embedding rows needed

 private:
  struct Impl;
  explicit ClipTokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// The byte offset of the first invalid UTF-8 sequence, or nullopt (overlong forms, surrogates and > U+10FFFF are
// invalid).
std::optional<std::size_t> invalid_utf8_at(std::string_view text);

// ---- encoder ------------------------------------------------------------------------------------------------------

// text_encoder/config.json (CLIPTextModel).
struct ClipTextSpec {
  int64_t vocab_size = 49408;
  int64_t hidden_size = 768;
  int64_t intermediate_size = 3072;
  int64_t num_hidden_layers = 12;
  int64_t num_attention_heads = 12;
  int64_t max_position_embeddings = 77;
  std::string hidden_act = "quick_gelu";  // quick_gelu | gelu
  double layer_norm_eps = 1e-5;

  static ClipTextSpec from_json(const json& config, const std::string& where);
};

struct ClipLayer;

// Radford et al. 2021 (arXiv 2103.00020), text tower; names as transformers' CLIPTextModel without `text_model.`.
class ClipTextEncoder {
 public:
  ClipTextEncoder(const Weights& w, const ClipTextSpec& spec);
  ~ClipTextEncoder();
  ClipTextEncoder(ClipTextEncoder&&) noexcept;

  // ids: [B, T] int64 → hidden states [B, T, hidden_size] of the layer `clip_skip` from the end (1: the last), with
  // final_layer_norm applied to it, as StableDiffusionPipeline.encode_prompt does. Throws Error(kUsage) if clip_skip
  // is outside 1 … num_hidden_layers.
  Tensor operator()(const Tensor& ids, int64_t clip_skip) const;

  const ClipTextSpec& spec() const { return spec_; }

 private:
  ClipTextSpec spec_;
  Tensor token_embedding_, position_embedding_;
  std::vector<ClipLayer> layers_;
  Tensor final_norm_weight_, final_norm_bias_;
};

}  // namespace easel
