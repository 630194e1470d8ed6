// text: the tokenizers and text encoders of CLIP and XLM-R.
#pragma once

#include <functional>

#include "easel/core.h"
#include "easel/prompt.h"
#include "easel/tensor.h"
#include "easel/weights.h"

namespace easel {

// ---- chunks -------------------------------------------------------------------------------------------------------

// What cutting a prompt into chunks needs of a tokenizer.
struct ChunkRules {
  std::function<std::vector<int64_t>(std::string_view)> encode;
  int64_t max_length, bos_id, eos_id, pad_id;
  int64_t comma_id;  // −1: none
};

// A word of the prompt that stands for vectors of its own (textual inversion).
struct EmbeddingWord {
  std::vector<int64_t> ids;  // that it is found by
  int64_t vectors = 1;       // places it takes, at most max_length − 2
};

struct PromptChunk {
  std::vector<int64_t> ids;        // max_length: start, text, end, padding; 0 where a word's vectors stand
  std::vector<double> weights;     // of each id: 1 for start, end and padding
  std::vector<int64_t> fragments;  // of each id: which of the weighted texts it is of; −1: of none
  struct Place {
    int64_t position;
    std::size_t word;  // of the embedding words
  };
  std::vector<Place> words;
  int64_t length = 0;  // before padding, start and end counted
};

// The chunks of a text, at least one: as AUTOMATIC1111's tokenize_line. A chunk that is full is broken behind the last
// comma of its last 20 tokens; a word's vectors stay together; of two words that begin at one place the longer counts.
std::vector<PromptChunk> chunks_of(const ChunkRules& rules, const std::vector<WeightedText>& texts,
                                   const std::vector<EmbeddingWord>& words = {});

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
  // The folder's vocabulary under another tokenizer_config.json, whose special tokens hold alone: the families whose
  // single files carry no tokenizer share CLIP's vocabulary and pad with different tokens.
  static ClipTokenizer from_folder(const std::filesystem::path& folder, const std::filesystem::path& tokenizer_config);

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
  int64_t vocab_size() const;      // one past the largest id, added tokens counted: the embedding rows needed
  ChunkRules chunk_rules() const;  // refers to this tokenizer

 private:
  struct Impl;
  explicit ClipTokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// The byte offset of the first invalid UTF-8 sequence, or nullopt (overlong forms, surrogates and > U+10FFFF are
// invalid).
std::optional<std::size_t> invalid_utf8_at(std::string_view text);

// ---- encoder ------------------------------------------------------------------------------------------------------

// text_encoder/config.json: CLIPTextModel, or CLIPTextModelWithProjection (SDXL's second) by its `architectures`.
struct ClipTextSpec {
  int64_t vocab_size = 49408;
  int64_t hidden_size = 768;
  int64_t intermediate_size = 3072;
  int64_t num_hidden_layers = 12;
  int64_t num_attention_heads = 12;
  int64_t max_position_embeddings = 77;
  std::string hidden_act = "quick_gelu";  // quick_gelu (OpenAI) | gelu (OpenCLIP)
  double layer_norm_eps = 1e-5;
  int64_t projection_dim = 0;  // width of the pooled text; 0: CLIPTextModel, which gives none

  static ClipTextSpec from_json(const json& config, const std::string& where);
};

// Stable Diffusion 1.x and 2.x apply final_layer_norm to the layer they take, whichever it is; SDXL takes it as it is.
enum class StateNorm { kFinal, kNone };

struct EncodedText {
  Tensor states;  // [B, T, hidden_size]
  Tensor pooled;  // [B, projection_dim]; undefined without a projection
};

// What an encoder may be told beside ids.
struct TextExtras {
  struct Vectors {
    int64_t row, position;
    Tensor vectors;  // [n, hidden_size] in place of the embeddings of the n ids from there on
  };
  std::vector<Vectors> vectors = {};
  Tensor seen = {};  // [B, T] bool: which tokens the others may attend to; undefined: all, as the pipelines do it
};

struct ClipLayer;

// Radford et al. 2021 (arXiv 2103.00020), text tower; names as transformers' CLIPTextModel without `text_model.`.
class ClipTextEncoder {
 public:
  ClipTextEncoder(const Weights& w, const ClipTextSpec& spec);
  ~ClipTextEncoder();
  ClipTextEncoder(ClipTextEncoder&&) noexcept;

  // ids: [B, T] int64. `states` are of the layer `clip_skip` from the end (1: the last). `pooled` is always the last
  // layer with final_layer_norm at the first `eos_id` of each row, projected. Throws Error(kUsage) if clip_skip is
  // outside 1 … num_hidden_layers.
  EncodedText operator()(const Tensor& ids, int64_t clip_skip, StateNorm norm, int64_t eos_id,
                         const TextExtras& extras = {}) const;

  const ClipTextSpec& spec() const { return spec_; }

 private:
  Tensor embedded(const Tensor& ids, const std::vector<TextExtras::Vectors>& vectors) const;
  Tensor normed(const Tensor& x) const;
  Tensor pooled(const Tensor& last_layer, const Tensor& ids, int64_t eos_id) const;

  ClipTextSpec spec_;
  Tensor token_embedding_, position_embedding_;
  std::vector<ClipLayer> layers_;
  Tensor final_norm_weight_, final_norm_bias_;
  Tensor text_projection_;  // [projection_dim, hidden_size]; undefined without
};

// ---- weights ------------------------------------------------------------------------------------------------------

// How weights change what an encoder gives. Tokens of weight 1 alone: not at all.
enum class PromptWeighting {
  kA1111,   // states × weight, and each chunk's mean brought back to what it was
  kCompel,  // away from the empty prompt's states by the weight; below 1 blended with the prompt in which the words are
            // hidden (compel 2.5, DownweightMode.MASK); chunks after the first end as the first does
};

// One chunk's states, [1, T, D], and pooled text. `seen` as in TextExtras, [1, T].
using EncodeChunk = std::function<EncodedText(const PromptChunk& chunk, const Tensor& seen)>;

// The chunks side by side, weighted: states [1, n·T, D] float32, pooled of the first chunk, without weights. `empty`
// gives the states of the empty prompt.
EncodedText encode_weighted(const std::vector<PromptChunk>& chunks, PromptWeighting weighting,
                            const EncodeChunk& encode, const std::function<Tensor()>& empty);

// ---- multilingual: XLM-R (AltDiffusion) -----------------------------------------------------------------------------

// XLM-R's tokenizer (Conneau et al. 2020, arXiv 1911.02116) on a sentencepiece model: id = piece + 1, unknown → 3; <s>
// 0, <pad> 1, </s> 2. The words of special tokens inside a prompt are text. Immutable: may be used from several
// threads.
class XlmRobertaTokenizer {
 public:
  // From a checkpoint's tokenizer folder: sentencepiece.bpe.model, and model_max_length (77 if it names none or "no
  // limit") of tokenizer_config.json. Throws Error(kFile) with the file and the fault; another tokenizer_class is one.
  static XlmRobertaTokenizer from_folder(const std::filesystem::path& folder);

  ~XlmRobertaTokenizer();
  XlmRobertaTokenizer(XlmRobertaTokenizer&&) noexcept;
  XlmRobertaTokenizer& operator=(XlmRobertaTokenizer&&) noexcept;

  // As of ClipTokenizer.
  std::vector<int64_t> encode(std::string_view text) const;
  TokenizedPrompt tokenize(std::string_view prompt) const;
  std::string decode(const std::vector<int64_t>& ids) const;
  int64_t max_length() const;
  int64_t pad_id() const;
  int64_t vocab_size() const;  // the embedding rows needed: the pieces, the shifted specials and <mask>
  ChunkRules chunk_rules() const;

 private:
  struct Impl;
  explicit XlmRobertaTokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// text_encoder/config.json (RobertaSeriesModelWithTransformation).
struct XlmRobertaSpec {
  int64_t vocab_size = 250002;
  int64_t hidden_size = 1024;
  int64_t intermediate_size = 4096;
  int64_t num_hidden_layers = 24;
  int64_t num_attention_heads = 16;
  int64_t max_position_embeddings = 514;
  int64_t type_vocab_size = 1;
  int64_t pad_token_id = 1;
  double layer_norm_eps = 1e-5;
  int64_t project_dim = 768;
  bool use_attention_mask = true;
  bool has_pre_transformation = false;  // m18: of the layer before the last, normed

  static XlmRobertaSpec from_json(const json& config, const std::string& where);
};

struct XlmRobertaLayer;

// XLM-R's encoder (post-norm, learned positions from pad_token_id + 1, padding masked) and the projection to the
// U-Net's width of AltDiffusion (Chen et al. 2022, arXiv 2211.06679). Reference: diffusers'
// RobertaSeriesModelWithTransformation. Names as published: `roberta.…`, `transformation…`.
class XlmRobertaEncoder {
 public:
  XlmRobertaEncoder(const Weights& w, const XlmRobertaSpec& spec);
  ~XlmRobertaEncoder();
  XlmRobertaEncoder(XlmRobertaEncoder&&) noexcept;

  // ids: [B, T] int64, padded with pad_token_id; T at most max_position_embeddings − pad_token_id − 1 → [B, T,
  // project_dim]. `seen` as in TextExtras; padding never is.
  Tensor operator()(const Tensor& ids, const Tensor& seen = {}) const;

  const XlmRobertaSpec& spec() const { return spec_; }

 private:
  XlmRobertaSpec spec_;
  Tensor word_embeddings_, position_embeddings_, token_type_embeddings_;
  std::vector<Tensor> norm_;  // of the embeddings: weight, bias
  std::vector<XlmRobertaLayer> layers_;
  std::vector<Tensor> transformation_;  // weight, bias; the one that is used
  std::vector<Tensor> pre_norm_;        // with has_pre_transformation
};

}  // namespace easel
