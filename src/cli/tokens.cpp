// easel tokens: what a prompt is to a model's text encoders.
#include "cli/arguments.h"
#include "cli/results.h"
#include "cli/table.h"
#include "easel/pipeline.h"

namespace easel::cli {

namespace {

struct Tokens {
  std::string encoder;
  TokenizedPrompt prompt;
  int64_t most = 0;                 // ids that a prompt can have
  std::vector<std::string> pieces;  // of each id before the padding
};

template <class Tokenizer>
Tokens tokens_of(std::string encoder, const Tokenizer& tokenizer, const std::string& prompt) {
  Tokens out{std::move(encoder), tokenizer.tokenize(prompt), tokenizer.max_length(), {}};
  for (int64_t i = 0; i < out.prompt.length; ++i) {
    const bool is_end = i == 0 || i + 1 == out.prompt.length;
    const int64_t id = out.prompt.ids[static_cast<std::size_t>(i)];
    out.pieces.push_back(is_end ? (i == 0 ? "<start>" : "<end>") : tokenizer.decode({id}));
  }
  return out;
}

std::vector<Tokens> all_tokens(const Checkpoint& c, const std::string& prompt) {
  std::vector<Tokens> all;
  if (c.multilingual) all.push_back(tokens_of("text_encoder", *c.multilingual->tokenizer(), prompt));
  if (c.text_encoder) all.push_back(tokens_of("text_encoder", *c.text_encoder->tokenizer(), prompt));
  if (c.text_encoder_2) all.push_back(tokens_of("text_encoder_2", *c.text_encoder_2->tokenizer(), prompt));
  return all;
}

std::string as_text(const Tokens& t) {
  std::string text = t.encoder + ": " + std::to_string(t.prompt.length) + " of " + std::to_string(t.most) +
                     " tokens, start and end counted\n";
  Table rows = {{"PLACE", "ID", "TOKEN"}};
  for (std::size_t i = 0; i < t.pieces.size(); ++i)
    rows.push_back({std::to_string(i), std::to_string(t.prompt.ids[i]), t.pieces[i]});
  text += aligned(rows);
  if (t.prompt.cut_length > 0)
    text += "not seen by the model, the last " + std::to_string(t.prompt.cut_length) + ": " + t.prompt.cut + "\n";
  return text;
}

std::string as_json(const Tokens& t) {
  const std::vector<int64_t> ids(t.prompt.ids.begin(), t.prompt.ids.begin() + t.prompt.length);
  const nlohmann::ordered_json line = {{"encoder", t.encoder}, {"ids", ids},
                                       {"tokens", t.pieces},   {"max_length", t.most},
                                       {"cut", t.prompt.cut},  {"cut_length", t.prompt.cut_length}};
  return line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace

int tokens(const Arguments& arguments) {
  CLI::App app("What a prompt is to a model: its tokens, and what of it is cut.", "easel tokens");
  const CLI::Option* prompt = add_text(app, "-p,--prompt", "TEXT", "the prompt; the bare argument", "Options");
  const CLI::Option* model =
      add_text(app, "-m,--model", "PATH", "folder or single file (the bundled model)", "Options");
  const CLI::Option* json = add_switch(app, "--json", "one JSON object a text encoder", "Options");
  Faults faults;
  if (!parse(app, arguments, "-p", faults)) return 0;
  const std::optional<std::string> text = value_of(*prompt, faults);
  const std::string name = value_of(*model, faults).value_or(kBundledModel);
  Request request;
  if (text)
    set_from_text(request, *find_request_field("prompt"), *text, "--prompt", faults);
  else
    faults.add("no prompt: say which, as in  easel tokens \"a red fox in the snow\"");
  faults.raise_if_any(ErrorKind::kUsage, "see 'easel tokens --help'");

  const Checkpoint checkpoint = open_checkpoint(find_model(name));
  if (checkpoint.pixel)
    throw Error(ErrorKind::kUsage,
                checkpoint.path.string() + " is a " + checkpoint.family->title + ": it reads no text");
  std::string out;
  for (const Tokens& one : all_tokens(checkpoint, *request.prompt))
    out += json->count() > 0 ? as_json(one) : as_text(one);
  print_text(out);
  return 0;
}

}  // namespace easel::cli
