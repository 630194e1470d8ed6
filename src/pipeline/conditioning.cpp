#include "pipeline/conditioning.h"

#include "pipeline/embeddings.h"

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

std::shared_ptr<const ClipTokenizer> checked(const std::optional<TextPart>& part) {
  if (!part) return nullptr;
  std::shared_ptr<const ClipTokenizer> tokenizer = part->tokenizer();
  check(*tokenizer, part->tokenizer_folder, part->spec.vocab_size, part->spec.max_position_embeddings);
  return tokenizer;
}

std::shared_ptr<const XlmRobertaTokenizer> checked(const std::optional<MultilingualPart>& part) {
  if (!part) return nullptr;
  std::shared_ptr<const XlmRobertaTokenizer> tokenizer = part->tokenizer();
  // Text is counted on from pad_token_id.
  const int64_t positions = part->spec.max_position_embeddings - part->spec.pad_token_id - 1;
  check(*tokenizer, part->tokenizer_folder, part->spec.vocab_size, positions);
  return tokenizer;
}

// Texts → states, in the U-Net's dtype; each text is tokenized, its encoder loaded and run only where it was not
// before.
class TextStage {
 public:
  TextStage(const Request& request, const PromptPlan& plan, const Tokenizers& tokenizers, StageSet& nets,
            CutWarnings& cuts, const std::function<void()>& make_room, Timings& time)
      : plan_(plan),
        embedding_folder_(request.embd_dir.value_or("")),
        embeddings_(embeddings_of(request, nets.checkpoint())),
        tokenizers_(tokenizers),
        nets_(nets),
        cuts_(cuts),
        make_room_(make_room),
        time_(time) {}

  // The encoders' states side by side, filled up to so many chunks; the second one's pooled text.
  EncodedText encode(const Texts& texts, int64_t clip_skip, int64_t chunks) {
    const Checkpoint& c = nets_.checkpoint();
    if (c.multilingual) return filled(Part::kTextEncoder, texts.first, /*layer=*/1, chunks);
    EncodedText all;
    std::vector<Tensor> states;
    for (const auto& [part, there, text] : {std::tuple{Part::kTextEncoder, c.text_encoder.has_value(), texts.first},
                                            {Part::kTextEncoder2, c.text_encoder_2.has_value(), texts.second}}) {
      if (!there) continue;
      const EncodedText one = filled(part, text, clip_skip - c.layers_left_out(), chunks);
      states.push_back(one.states);
      all.pooled = one.pooled;
    }
    all.states = at::cat(states, /*dim=*/-1);
    return all;
  }

 private:
  // Shorter texts are followed by chunks of the empty one.
  EncodedText filled(Part part, const std::string& text, int64_t layer, int64_t chunks) {
    EncodedText encoded = remembered(part, text, layer);
    const int64_t missing = chunks - encoded.states.size(1) / rules_of(part).max_length;
    if (missing <= 0) return encoded;
    const Tensor empty = remembered(part, "", layer).states;
    encoded.states = at::cat({encoded.states, empty.repeat({1, missing, 1})}, 1);
    return encoded;
  }

  ChunkRules rules_of(Part part) const {
    return nets_.checkpoint().multilingual ? tokenizers_.multilingual().chunk_rules()
                                           : tokenizers_.of(part).chunk_rules();
  }

  EncodedText remembered(Part part, const std::string& text, int64_t layer) {
    constexpr std::size_t kRemembered = 64;
    const std::string read_as = plan_.raw ? "raw" : plan_.weighting == PromptWeighting::kCompel ? "compel" : "a1111";
    const auto key = std::tuple(part, read_as + " " + embedding_folder_ + "\n" + text, layer);
    if (const auto found = nets_.encoded.find(key); found != nets_.encoded.end()) return found->second;
    EncodedText encoded = plan_.raw ? encode_raw(part, text, layer) : encode_chunks(part, text, layer);
    const at::ScalarType dtype = nets_.precision().unet;
    encoded.states = encoded.states.to(dtype);
    if (encoded.pooled.defined()) encoded.pooled = encoded.pooled.to(dtype);
    if (nets_.encoded.size() >= kRemembered) nets_.encoded.clear();
    return nets_.encoded[key] = std::move(encoded);
  }

  EncodedText encode_raw(Part part, const std::string& text, int64_t layer) {
    const bool multilingual = nets_.checkpoint().multilingual.has_value();
    const TokenizedPrompt tokens =
        multilingual ? tokenizers_.multilingual().tokenize(text) : tokenizers_.of(part).tokenize(text);
    if (tokens.cut_length > 0) cuts_.tell(text, tokens, rules_of(part).max_length);
    return run(part, tokens.ids, layer, {});
  }

  EncodedText encode_chunks(Part part, const std::string& text, int64_t layer) {
    const ChunkRules rules = rules_of(part);
    const std::vector<WeightedText> texts = weighted_texts(text);
    const FoundWords found = embeddings_ ? embeddings_->words_in(texts, part) : FoundWords();
    const auto encode = [&](const PromptChunk& chunk, const Tensor& seen) {
      TextExtras extras{.vectors = {}, .seen = seen};
      for (const PromptChunk::Place& place : chunk.words) {
        const TextualInversion& word = *found.files[place.word];
        extras.vectors.push_back({0, place.position, part == Part::kTextEncoder2 ? word.second : word.first});
      }
      return run(part, chunk.ids, layer, extras);
    };
    const auto empty = [&] { return run(part, chunks_of(rules, {{}}).front().ids, layer, {}).states; };
    return encode_weighted(chunks_of(rules, texts, found.words), plan_.weighting, encode, empty);
  }

  EncodedText run(Part part, const std::vector<int64_t>& tokens, int64_t layer, TextExtras extras) {
    if (!nets_.is_loaded(part)) make_room_();
    const at::Device device = nets_.precision().device;
    const Tensor ids = at::tensor(tokens, at::kLong).unsqueeze(0).to(device);
    if (extras.seen.defined()) extras.seen = extras.seen.to(device);
    if (nets_.checkpoint().multilingual) {
      const XlmRobertaEncoder& encoder = nets_.multilingual(&time_.load);
      return timed([&] { return EncodedText{encoder(ids, extras.seen), {}}; });
    }
    const StateNorm norm = nets_.checkpoint().is_sdxl() ? StateNorm::kNone : StateNorm::kFinal;
    const ClipTextEncoder& encoder = nets_.text_encoder(part, &time_.load);
    return timed([&] { return encoder(ids, layer, norm, tokenizers_.of(part).eos_id(), extras); });
  }

  template <class Encode>
  EncodedText timed(const Encode& encode) {
    const double start = now_seconds();
    EncodedText encoded = encode();
    time_.encode += now_seconds() - start;
    return encoded;
  }

  const PromptPlan& plan_;
  std::string embedding_folder_;
  std::shared_ptr<EmbeddingFolder> embeddings_;
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

// One picture's rows.
class PictureTexts {
 public:
  PictureTexts(const Request& request, const PromptPlan& plan, int64_t chunks, TextStage text, StageSet& nets)
      : r_(request), plan_(plan), chunks_(chunks), text_(std::move(text)), nets_(nets) {}

  std::string key_at(int64_t step) const {
    json key = json::array();
    const auto add = [&](const PromptPart& part) {
      const Texts texts = part.at(step);
      key.push_back(texts.first);
      key.push_back(texts.second);
    };
    add(plan_.negative);
    for (const PromptPart& part : plan_.parts) add(part);
    return key.dump(-1, ' ', false, json::error_handler_t::replace);
  }

  // With guidance the unconditional one first.
  std::vector<EncodedText> rows_at(int64_t step) {
    std::vector<EncodedText> rows;
    for (const PromptPart& part : plan_.parts) rows.push_back(text_.encode(part.at(step), *r_.clip_skip, chunks_));
    if (is_guided()) rows.insert(rows.begin(), unconditional(step, rows.front()));
    return rows;
  }

  bool is_guided() const { return nets_.checkpoint().is_guided(*r_.cfg_scale); }
  const Request& request() const { return r_; }
  const PromptPlan& plan() const { return plan_; }

 private:
  // The negative prompt always takes the family's own layer: diffusers skips layers for the prompt alone.
  EncodedText unconditional(int64_t step, const EncodedText& like) {
    const Checkpoint& c = nets_.checkpoint();
    if (!r_.negative_prompt && c.force_zeros_for_empty_prompt)
      return {at::zeros_like(like.states), at::zeros_like(like.pooled)};
    return text_.encode(plan_.negative.at(step), c.own_clip_skip(), chunks_);
  }

  const Request& r_;
  const PromptPlan& plan_;
  int64_t chunks_;
  TextStage text_;
  StageSet& nets_;
};

// All first rows, then all second ones, …
Conditioning together(std::vector<PictureTexts>& pictures, int64_t step, const Checkpoint& c) {
  std::vector<std::vector<EncodedText>> rows;
  for (PictureTexts& picture : pictures) rows.push_back(picture.rows_at(step));
  std::vector<Tensor> states, pooled, ids;
  for (std::size_t row = 0; row < rows.front().size(); ++row) {
    for (std::size_t i = 0; i < pictures.size(); ++i) {
      states.push_back(rows[i][row].states);
      if (!c.is_sdxl()) continue;
      pooled.push_back(rows[i][row].pooled);
      ids.push_back(time_ids(pictures[i].request(), c, /*unconditional=*/pictures[i].is_guided() && row == 0));
    }
  }
  Conditioning all;
  all.context = at::cat(states);
  if (c.is_sdxl()) {
    all.added.text_embeds = at::cat(pooled);
    all.added.time_ids = at::cat(ids);
  }
  if (c.unet.time_cond_proj_dim > 0) all.added.guidance_scale = *pictures.front().request().cfg_scale;
  return all;
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

const Conditioning& TextSchedule::at(const Step& step) const {
  return all[of_step[static_cast<std::size_t>(steps.step_of(step))]];
}

TextSchedule condition(const Pack& pack, std::optional<int64_t> first_pass, const Tokenizers& tokenizers,
                       StageSet& nets, CutWarnings& cuts, const std::function<void()>& make_room, Timings& time) {
  const Checkpoint& c = nets.checkpoint();
  const int64_t chunks = prompt_shape(*pack.front(), c).chunks;  // the pack shares it
  std::vector<PromptPlan> plans;
  for (const Request* r : pack) plans.push_back(plan_prompt(*r, c, first_pass));
  std::vector<PictureTexts> pictures;
  for (std::size_t i = 0; i < pack.size(); ++i)
    pictures.emplace_back(*pack[i], plans[i], chunks,
                          TextStage(*pack[i], plans[i], tokenizers, nets, cuts, make_room, time), nets);

  TextSchedule schedule{.steps = plans.front()};
  for (const PromptPlan& plan : plans) {
    std::vector<double> weights;
    for (const PromptPart& part : plan.parts) weights.push_back(part.weight);
    schedule.weights.push_back(std::move(weights));
  }
  std::map<std::string, std::size_t> known;
  for (int64_t step = 0; step < plans.front().steps_drawn(); ++step) {
    std::string key;
    for (const PictureTexts& picture : pictures) key += picture.key_at(step);
    const auto [entry, is_new] = known.emplace(std::move(key), schedule.all.size());
    if (is_new) schedule.all.push_back(together(pictures, step, c));
    schedule.of_step.push_back(entry->second);
  }
  return schedule;
}

Conditioning conditional_rows(const Conditioning& all, int64_t pictures) {
  const auto without_first = [&](const Tensor& t) {
    return t.defined() ? t.narrow(0, pictures, t.size(0) - pictures) : t;
  };
  Conditioning rows{without_first(all.context), all.added};
  rows.added.text_embeds = without_first(all.added.text_embeds);
  rows.added.time_ids = without_first(all.added.time_ids);
  return rows;
}

}  // namespace easel
