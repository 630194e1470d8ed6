#include "pipeline/conditioning.h"

namespace easel {

namespace {

template <class Tokenizer>
void check(const Tokenizer& tokenizer, const std::filesystem::path& folder, int64_t rows, int64_t positions) {
  Faults faults;
  const std::string where = folder.string() + ": ";
  if (tokenizer.vocab_size() > rows)
    faults.add(where + std::to_string(tokenizer.vocab_size()) + " tokens, but the text encoder has rows for " +
               std::to_string(rows));
  if (tokenizer.max_length() > positions)
    faults.add(where + "prompts of " + std::to_string(tokenizer.max_length()) +
               " tokens, but the text encoder has positions for " + std::to_string(positions));
  faults.raise_if_any(ErrorKind::kFile);
}

std::optional<ClipTokenizer> checked(const std::optional<TextPart>& part) {
  if (!part) return std::nullopt;
  ClipTokenizer tokenizer = part->tokenizer();
  check(tokenizer, part->tokenizer_folder, part->spec.vocab_size, part->spec.max_position_embeddings);
  return tokenizer;
}

std::optional<XlmRobertaTokenizer> checked(const std::optional<MultilingualPart>& part) {
  if (!part) return std::nullopt;
  XlmRobertaTokenizer tokenizer = XlmRobertaTokenizer::from_folder(part->tokenizer_folder);
  // Text is counted on from pad_token_id.
  const int64_t positions = part->spec.max_position_embeddings - part->spec.pad_token_id - 1;
  check(tokenizer, part->tokenizer_folder, part->spec.vocab_size, positions);
  return tokenizer;
}

// The text for each of a checkpoint's encoders.
struct Texts {
  std::string first, second;
};

// A refiner's only encoder is SDXL's second, and takes the first prompt, as in diffusers.
Texts texts_of(const Checkpoint& c, const std::string& prompt, const std::optional<std::string>& prompt_2) {
  return {prompt, c.text_encoder ? prompt_2.value_or(prompt) : prompt};
}

class TextStage {
 public:
  TextStage(const Tokenizers& tokenizers, StageSet& nets, CutWarnings& cuts, const std::function<void()>& make_room,
            Timings& time)
      : tokenizers_(tokenizers), nets_(nets), cuts_(cuts), make_room_(make_room), time_(time) {}

  // The encoders' states side by side; the second one's pooled text.
  EncodedText encode(const Texts& texts, int64_t clip_skip) {
    const Checkpoint& c = nets_.checkpoint();
    if (c.multilingual) return encode_multilingual(texts.first);
    EncodedText all;
    std::vector<Tensor> states;
    for (const auto& [part, there, text] : {std::tuple{Part::kTextEncoder, c.text_encoder.has_value(), texts.first},
                                            {Part::kTextEncoder2, c.text_encoder_2.has_value(), texts.second}}) {
      if (!there) continue;
      const EncodedText& one = encode(part, text, clip_skip - c.layers_left_out());
      states.push_back(one.states);
      all.pooled = one.pooled;
    }
    all.states = at::cat(states, /*dim=*/-1);
    return all;
  }

 private:
  const EncodedText& encode(Part part, const std::string& text, int64_t layer) {
    const ClipTokenizer& tokenizer = tokenizers_.of(part);
    const StateNorm norm = nets_.checkpoint().is_sdxl() ? StateNorm::kNone : StateNorm::kFinal;
    return remembered(
        part, text, layer, tokenizer, [&]() -> const ClipTextEncoder& { return nets_.text_encoder(part, &time_.load); },
        [&](const ClipTextEncoder& encoder, const Tensor& ids) {
          return encoder(ids, layer, norm, tokenizer.eos_id());
        });
  }

  const EncodedText& encode_multilingual(const std::string& text) {
    return remembered(
        Part::kTextEncoder, text, /*layer=*/1, tokenizers_.multilingual(),
        [&]() -> const XlmRobertaEncoder& { return nets_.multilingual(&time_.load); },
        [](const XlmRobertaEncoder& encoder, const Tensor& ids) {
          return EncodedText{encoder(ids), {}};
        });
  }

  // In the U-Net's dtype; tokenized, loaded and encoded only where it was not before.
  template <class Tokenizer, class Load, class Encode>
  const EncodedText& remembered(Part part, const std::string& text, int64_t layer, const Tokenizer& tokenizer,
                                const Load& load, const Encode& encode) {
    constexpr std::size_t kRemembered = 64;
    const auto key = std::tuple(part, text, layer);
    if (const auto found = nets_.encoded.find(key); found != nets_.encoded.end()) return found->second;

    const TokenizedPrompt tokens = tokenizer.tokenize(text);
    if (tokens.cut_length > 0) cuts_.tell(text, tokens, tokenizer.max_length());
    if (!nets_.is_loaded(part)) make_room_();
    const auto& encoder = load();
    const double start = now_seconds();
    const Precision& p = nets_.precision();
    EncodedText encoded = encode(encoder, at::tensor(tokens.ids, at::kLong).unsqueeze(0).to(p.device));
    encoded.states = encoded.states.to(p.unet);
    if (encoded.pooled.defined()) encoded.pooled = encoded.pooled.to(p.unet);
    time_.encode += now_seconds() - start;
    if (nets_.encoded.size() >= kRemembered) nets_.encoded.clear();
    return nets_.encoded[key] = std::move(encoded);
  }

  const Tokenizers& tokenizers_;
  StageSet& nets_;
  CutWarnings& cuts_;
  const std::function<void()>& make_room_;
  Timings& time_;
};

// One row: the network knows sizes as (height, width) and corners as (top, left). diffusers tells the unconditional
// half of its image-to-image pipeline, which is the refiner's, of no crop.
Tensor time_ids(const Request& r, const Checkpoint& c, bool unconditional) {
  std::vector<float> ids;
  const auto append = [&](const std::string& text, TextForm form) {
    const auto [across, down] = *number_pair(text, form);
    ids.insert(ids.end(), {static_cast<float>(down), static_cast<float>(across)});
  };
  append(*r.original_size, TextForm::kSize);
  append(c.requires_aesthetics_score && unconditional ? "0,0" : *r.crop, TextForm::kPoint);
  if (c.requires_aesthetics_score) {
    ids.push_back(static_cast<float>(unconditional ? *r.negative_aesthetic_score : *r.aesthetic_score));
  } else {
    append(*r.target_size, TextForm::kSize);
  }
  return at::tensor(ids, at::kFloat).unsqueeze(0);
}

// The negative prompt always takes the family's own layer: diffusers skips layers for the prompt alone.
EncodedText unconditional(const Request& r, const Checkpoint& c, const EncodedText& like, TextStage& text) {
  if (!r.negative_prompt && c.force_zeros_for_empty_prompt)
    return {at::zeros_like(like.states), at::zeros_like(like.pooled)};
  return text.encode(texts_of(c, r.negative_prompt.value_or(""), r.negative_prompt_2), c.own_clip_skip());
}

}  // namespace

Tokenizers::Tokenizers(const Checkpoint& c)
    : first_(checked(c.text_encoder)), second_(checked(c.text_encoder_2)), multilingual_(checked(c.multilingual)) {}

void CutWarnings::tell(const std::string& text, const TokenizedPrompt& tokens, int64_t max_length) {
  if (!told_.insert(text).second) return;
  constexpr std::size_t kShown = 300;
  const bool long_text = tokens.cut.size() > kShown;
  const std::string cut = json(tokens.cut.substr(0, kShown)).dump(-1, ' ', false, json::error_handler_t::ignore);
  log::warn("the prompt is longer than " + std::to_string(max_length) + " tokens; not seen by the model, the last " +
            std::to_string(tokens.cut_length) + ": " + cut + (long_text ? " ..." : ""));
}

Conditioning condition(const Request& r, const Tokenizers& tokenizers, StageSet& nets, CutWarnings& cuts,
                       const std::function<void()>& make_room, Timings& time) {
  const Checkpoint& c = nets.checkpoint();
  TextStage text(tokenizers, nets, cuts, make_room, time);
  const EncodedText cond = text.encode(texts_of(c, *r.prompt, r.prompt_2), *r.clip_skip);
  std::vector<EncodedText> halves;
  if (c.is_guided(*r.cfg_scale)) halves.push_back(unconditional(r, c, cond, text));
  halves.push_back(cond);

  Conditioning all;
  std::vector<Tensor> states, pooled, ids;
  for (const EncodedText& half : halves) {
    states.push_back(half.states);
    if (!c.is_sdxl()) continue;
    pooled.push_back(half.pooled);
    ids.push_back(time_ids(r, c, /*unconditional=*/&half != &halves.back()));
  }
  all.context = at::cat(states);
  if (c.is_sdxl()) {
    all.added.text_embeds = at::cat(pooled);
    all.added.time_ids = at::cat(ids);
  }
  if (c.unet.time_cond_proj_dim > 0) all.added.guidance_scale = *r.cfg_scale;
  return all;
}

Conditioning joined(const std::vector<Conditioning>& all) {
  if (all.size() == 1) return all.front();
  // All first rows, then all second ones.
  const auto rows = [&](const auto& of) {
    std::vector<Tensor> halves;
    for (int64_t half = 0; half < of(all.front()).size(0); ++half) {
      for (const Conditioning& one : all) halves.push_back(of(one).narrow(0, half, 1));
    }
    return at::cat(halves);
  };
  Conditioning out = {rows([](const Conditioning& c) { return c.context; }), all.front().added};
  if (out.added.text_embeds.defined())
    out.added.text_embeds = rows([](const Conditioning& c) { return c.added.text_embeds; });
  if (out.added.time_ids.defined()) out.added.time_ids = rows([](const Conditioning& c) { return c.added.time_ids; });
  return out;
}

}  // namespace easel
