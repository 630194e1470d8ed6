// easel tokens: what a prompt is to a model's text encoders.
#include <set>
#include <sstream>

#include "cli/arguments.h"
#include "cli/results.h"
#include "cli/table.h"
#include "easel/pipeline.h"

namespace easel::cli {

namespace {

using nlohmann::ordered_json;

// A text that an encoder is told, and where it belongs.
struct Told {
  std::size_t part = 0, parts = 1;  // of AND
  double weight = 1;
  std::optional<int64_t> last_step;  // where the text changes over the steps
  std::string text;
};

struct Tokens {
  std::string encoder;
  Told told;
  std::size_t chunk = 0, chunks = 1;
  std::vector<int64_t> ids;         // before the padding
  std::vector<std::string> pieces;  // of each id
  std::vector<double> weights;
  int64_t most = 0;  // ids that a chunk can have
  std::string cut;   // of raw prompts
  int64_t cut_length = 0;
};

// What is worth saying of the whole prompt.
struct Remarks {
  std::vector<LoraTag> loras;
  std::vector<std::string> notes;
  std::vector<std::string> in_pieces;  // words that the vocabulary does not have whole
};

struct Reading {
  std::vector<Told> told;
  Remarks remarks;
};

// ---- reading ------------------------------------------------------------------------------------------------------

Reading read_language(const std::string& prompt, int64_t steps) {
  Reading reading;
  TaggedPrompt tagged = without_tags(prompt);
  reading.remarks.loras = std::move(tagged.loras);
  reading.remarks.notes = std::move(tagged.faults);
  for (std::string& oddity : oddities_of(tagged.text)) reading.remarks.notes.push_back(std::move(oddity));
  const std::vector<ComposedText> parts = split_composition(tagged.text);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::vector<ScheduledText> schedule = scheduled_texts(parts[i].text, steps);
    for (const ScheduledText& entry : schedule)
      reading.told.push_back({i, parts.size(), parts[i].weight,
                              schedule.size() > 1 ? std::optional(entry.last_step) : std::nullopt, entry.text});
  }
  return reading;
}

// White space and the brackets of the language part words here; punctuation around them is none of them.
std::set<std::string> words_of(const std::string& text) {
  constexpr const char* kPunctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";
  std::set<std::string> words;
  for (const WeightedText& part : weighted_texts(text)) {
    std::istringstream in(part.text);
    for (std::string word; in >> word;) {
      const std::size_t first = word.find_first_not_of(kPunctuation);
      if (first != std::string::npos) words.insert(word.substr(first, word.find_last_not_of(kPunctuation) + 1 - first));
    }
  }
  return words;
}

template <class Tokenizer>
void append_pieces(Tokens& tokens, const Tokenizer& tokenizer) {
  for (std::size_t i = 0; i < tokens.ids.size(); ++i) {
    const bool is_first = i == 0, is_last = i + 1 == tokens.ids.size();
    tokens.pieces.push_back(is_first ? "<start>" : is_last ? "<end>" : tokenizer.decode({tokens.ids[i]}));
  }
}

template <class Tokenizer>
void append_raw(std::vector<Tokens>& all, const std::string& encoder, const Tokenizer& tokenizer, const Told& told) {
  TokenizedPrompt prompt = tokenizer.tokenize(told.text);
  Tokens tokens{.encoder = encoder, .told = told, .ids = {}, .pieces = {}, .weights = {}, .cut = {}};
  tokens.ids.assign(prompt.ids.begin(), prompt.ids.begin() + prompt.length);
  tokens.weights.assign(tokens.ids.size(), 1);
  tokens.most = tokenizer.max_length();
  tokens.cut = std::move(prompt.cut);
  tokens.cut_length = prompt.cut_length;
  append_pieces(tokens, tokenizer);
  all.push_back(std::move(tokens));
}

template <class Tokenizer>
void append_chunks(std::vector<Tokens>& all, const std::string& encoder, const Tokenizer& tokenizer, const Told& told) {
  const std::vector<PromptChunk> chunks = chunks_of(tokenizer.chunk_rules(), weighted_texts(told.text));
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    Tokens tokens{.encoder = encoder, .told = told, .ids = {}, .pieces = {}, .weights = {}, .cut = {}};
    tokens.chunk = i, tokens.chunks = chunks.size();
    tokens.ids.assign(chunks[i].ids.begin(), chunks[i].ids.begin() + chunks[i].length);
    tokens.weights.assign(chunks[i].weights.begin(), chunks[i].weights.begin() + chunks[i].length);
    tokens.most = tokenizer.max_length();
    append_pieces(tokens, tokenizer);
    all.push_back(std::move(tokens));
  }
}

struct Report {
  std::vector<Tokens> tokens;
  Remarks remarks;
};

class Reader {
 public:
  Reader(const std::string& prompt, bool raw, int64_t steps) : raw_(raw) {
    if (raw)
      reading_.told = {{0, 1, 1, std::nullopt, prompt}};
    else
      reading_ = read_language(prompt, steps);
    report_.remarks = reading_.remarks;
  }

  template <class Tokenizer>
  void read_with(const std::string& encoder, const Tokenizer& tokenizer) {
    for (const Told& told : reading_.told) {
      if (raw_)
        append_raw(report_.tokens, encoder, tokenizer, told);
      else
        append_chunks(report_.tokens, encoder, tokenizer, told);
      if (!report_.remarks.in_pieces.empty() || encoder != report_.tokens.front().encoder) continue;
      for (const std::string& word : words_of(told.text)) {
        if (tokenizer.encode(word).size() > 1) in_pieces_.insert(word);
      }
    }
  }

  Report done() {
    report_.remarks.in_pieces.assign(in_pieces_.begin(), in_pieces_.end());
    return std::move(report_);
  }

 private:
  bool raw_;
  Reading reading_;
  Report report_;
  std::set<std::string> in_pieces_;
};

Report report_of(const Checkpoint& c, const std::string& prompt, bool raw, int64_t steps) {
  Reader reader(prompt, raw, steps);
  if (c.multilingual) reader.read_with("text_encoder", *c.multilingual->tokenizer());
  if (c.text_encoder) reader.read_with("text_encoder", *c.text_encoder->tokenizer());
  if (c.text_encoder_2) reader.read_with("text_encoder_2", *c.text_encoder_2->tokenizer());
  return reader.done();
}

// ---- telling ------------------------------------------------------------------------------------------------------

std::string quoted(const std::string& text) { return json(text).dump(-1, ' ', false, json::error_handler_t::replace); }

std::string title_of(const Tokens& t) {
  std::string title = t.encoder;
  if (t.told.parts > 1)
    title += ", part " + std::to_string(t.told.part + 1) + " of " + std::to_string(t.told.parts) + " (weight " +
             plain(t.told.weight) + ")";
  if (t.told.last_step) title += ", up to step " + std::to_string(*t.told.last_step) + " " + quoted(t.told.text);
  if (t.chunks > 1) title += ", chunk " + std::to_string(t.chunk + 1) + " of " + std::to_string(t.chunks);
  return title + ": " + std::to_string(t.ids.size()) + " of " + std::to_string(t.most) +
         " tokens, start and end counted\n";
}

std::string as_text(const Tokens& t) {
  const bool weighted = std::any_of(t.weights.begin(), t.weights.end(), [](double w) { return w != 1; });
  Table rows = {{"PLACE", "ID", "TOKEN"}};
  if (weighted) rows.front().insert(rows.front().begin() + 2, "WEIGHT");
  for (std::size_t i = 0; i < t.pieces.size(); ++i) {
    rows.push_back({std::to_string(i), std::to_string(t.ids[i]), t.pieces[i]});
    char weight[32];
    std::snprintf(weight, sizeof weight, "%.4g", t.weights[i]);
    if (weighted) rows.back().insert(rows.back().begin() + 2, weight);
  }
  std::string text = title_of(t) + aligned(rows);
  if (t.cut_length > 0) text += "not seen by the model, the last " + std::to_string(t.cut_length) + ": " + t.cut + "\n";
  return text;
}

std::string as_text(const Remarks& remarks) {
  std::string text;
  if (!remarks.in_pieces.empty())
    text += "words the vocabulary has in pieces only: " + listed(remarks.in_pieces) + "\n";
  for (const LoraTag& lora : remarks.loras)
    text += "LoRA " + lora.name + ": text encoder " + plain(lora.text_encoder) + ", U-Net " + plain(lora.unet) + "\n";
  for (const std::string& note : remarks.notes) text += "note: " + note + "\n";
  return text;
}

ordered_json as_json(const Tokens& t) {
  ordered_json line = {{"encoder", t.encoder},  {"part", t.told.part}, {"part_weight", t.told.weight},
                       {"up_to_step", nullptr}, {"text", t.told.text}, {"chunk", t.chunk},
                       {"ids", t.ids},          {"tokens", t.pieces},  {"weights", t.weights},
                       {"max_length", t.most},  {"cut", t.cut},        {"cut_length", t.cut_length}};
  if (t.told.last_step) line["up_to_step"] = *t.told.last_step;
  return line;
}

void append(ordered_json& line, const Remarks& remarks) {
  line["in_pieces"] = remarks.in_pieces;
  line["notes"] = remarks.notes;
  line["loras"] = ordered_json::array();
  for (const LoraTag& lora : remarks.loras)
    line["loras"].push_back({{"name", lora.name}, {"text_encoder", lora.text_encoder}, {"unet", lora.unet}});
}

void print(const Report& report, bool json_lines) {
  std::string out;
  for (std::size_t i = 0; i < report.tokens.size(); ++i) {
    if (!json_lines) {
      out += as_text(report.tokens[i]);
      continue;
    }
    ordered_json line = as_json(report.tokens[i]);
    if (i == 0) append(line, report.remarks);
    out += line.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
  }
  print_text(json_lines ? out : out + as_text(report.remarks));
}

}  // namespace

int tokens(const Arguments& arguments) {
  CLI::App app(
      "What a prompt is to a model: its parts, texts, chunks and tokens, their weights, and what of it is cut.",
      "easel tokens");
  const CLI::Option* prompt = add_text(app, "-p,--prompt", "TEXT", "the prompt; the bare argument", "Options");
  const CLI::Option* model =
      add_text(app, "-m,--model", "PATH", "folder or single file (the bundled model)", "Options");
  const CLI::Option* syntax =
      add_text(app, "--prompt-syntax", "a1111|raw", "as of generate (default: a1111)", "Options");
  const CLI::Option* steps = add_text(app, "--steps", "N", "that [a:b:0.5] is about (default: 20)", "Options");
  const CLI::Option* json = add_switch(app, "--json", "one JSON object a chunk", "Options");
  Faults faults;
  if (!parse(app, arguments, "-p", faults)) return 0;
  Request request;
  for (const auto& [option, field] :
       {std::pair{prompt, "prompt"}, {model, "model"}, {syntax, "prompt_syntax"}, {steps, "steps"}}) {
    if (const auto text = value_of(*option, faults))
      set_from_text(request, *find_request_field(field), *text, spelling_of(*option), faults);
  }
  if (prompt->count() == 0) faults.add("no prompt: say which, as in  easel tokens \"a red fox in the snow\"");
  faults.raise_if_any(ErrorKind::kUsage, "see 'easel tokens --help'");

  const Checkpoint checkpoint = open_checkpoint(find_model(request.model.value_or(kBundledModel)));
  if (checkpoint.pixel)
    throw Error(ErrorKind::kUsage,
                checkpoint.path.string() + " is a " + checkpoint.family->title + ": it reads no text");
  constexpr int64_t kSteps = 20;
  print(report_of(checkpoint, *request.prompt, request.prompt_syntax == "raw", request.steps.value_or(kSteps)),
        json->count() > 0);
  return 0;
}

}  // namespace easel::cli
