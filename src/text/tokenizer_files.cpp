#include "text/tokenizer_files.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <map>
#include <utility>

#include "easel/core.h"
#include "easel/tensor.h"

namespace easel {

namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const fs::path& file, const std::string& place, const std::string& fault) {
  throw Error(ErrorKind::kFile, file.string() + (place.empty() ? "" : ": " + place) + ": " + fault,
              "get the checkpoint's tokenizer folder again");
}

std::string in_quotes(std::string_view text) {
  constexpr std::size_t kShown = 60;
  return text.size() <= kShown ? "\"" + std::string(text) + "\"" : "\"" + std::string(text.substr(0, kShown)) + "…\"";
}

// A JSON value for a message; invalid UTF-8 cannot be in it, the parser has refused that.
std::string shown(const json& value) {
  return value.is_structured() ? std::string("an ") + value.type_name() : value.dump();
}

std::string read_text(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) fail(file, "", "cannot be opened");
  std::string text;
  constexpr std::size_t kChunk = std::size_t{1} << 20;
  do {
    const std::size_t before = text.size();
    text.resize(before + kChunk);
    in.read(text.data() + before, kChunk);
    text.resize(before + static_cast<std::size_t>(in.gcount()));
  } while (in);
  if (in.bad()) fail(file, "", "cannot be read");
  return text;
}

bool is_there(const fs::path& file) {
  std::error_code ignored;  // a folder that may not be searched counts as empty
  return fs::exists(file, ignored);
}

json read_json_object(const fs::path& file) {
  json value;
  try {
    value = json::parse(read_text(file));
  } catch (const json::exception& e) {
    fail(file, "", std::string("not JSON: ") + e.what());
  }
  if (!value.is_object()) fail(file, "", "expected a JSON object, got " + shown(value));
  return value;
}

// ---- vocabulary ---------------------------------------------------------------------------------

void add_token(Vocabulary& vocabulary, const fs::path& file, const std::string& token, int64_t id) {
  if (id < 0 || id > Vocabulary::kMaxId) {
    fail(file, in_quotes(token),
         "expected an id from 0 to " + std::to_string(Vocabulary::kMaxId) + ", got " + std::to_string(id));
  }
  switch (vocabulary.add(token, static_cast<int32_t>(id))) {
    case Vocabulary::Added::kTokenTwice:
      fail(file, in_quotes(token), "the token is listed twice");
    case Vocabulary::Added::kIdTwice:
      fail(file, in_quotes(token),
           "id " + std::to_string(id) + " belongs to " + in_quotes(vocabulary.token(id)) + " already");
    case Vocabulary::Added::kYes:
      return;
  }
}

// {token: id, …} straight into a Vocabulary: a json object of 49408 members alone would cost as
// much as all the rest.
class VocabReader : public json::json_sax_t {
 public:
  VocabReader(const fs::path& file, Vocabulary& vocabulary) : file_(file), vocabulary_(vocabulary) {}

  bool key(std::string& token) override {
    token_ = token;
    return true;
  }
  bool number_unsigned(json::number_unsigned_t id) override {
    constexpr auto kTooLarge = static_cast<json::number_unsigned_t>(Vocabulary::kMaxId) + 1;
    return number_integer(static_cast<json::number_integer_t>(std::min(id, kTooLarge)));
  }
  bool number_integer(json::number_integer_t id) override {
    if (!in_object_) not_id(std::to_string(id));
    add_token(vocabulary_, file_, token_, id);
    return true;
  }
  bool start_object(std::size_t) override {
    if (in_object_) not_id("an object");
    return in_object_ = true;
  }
  bool end_object() override { return true; }
  bool null() override { not_id("null"); }
  bool boolean(bool value) override { not_id(value ? "true" : "false"); }
  bool number_float(json::number_float_t, const std::string& text) override { not_id(text); }
  bool string(std::string& text) override { not_id(in_quotes(text)); }
  bool binary(json::binary_t&) override { not_id("binary data"); }
  bool start_array(std::size_t) override { not_id("an array"); }
  bool end_array() override { return true; }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& e) override {
    fail(file_, "", std::string("not JSON: ") + e.what());
  }

 private:
  [[noreturn]] void not_id(const std::string& got) {
    if (!in_object_) fail(file_, "", "expected a JSON object of token: id, got " + got);
    fail(file_, in_quotes(token_), "expected an integer id, got " + got);
  }

  const fs::path& file_;
  Vocabulary& vocabulary_;
  std::string token_;
  bool in_object_ = false;
};

// ---- merges -------------------------------------------------------------------------------------

class MergeReader {
 public:
  MergeReader(const fs::path& file, const Vocabulary& vocabulary, MergeTable& merges)
      : file_(file), vocabulary_(vocabulary), merges_(merges) {}

  // `number` is the line or index that a message names.
  void add(std::string_view left, std::string_view right, const char* unit, std::size_t number) {
    const auto id = [&](std::string_view token) {
      const int32_t found = vocabulary_.find(token);
      if (found == Vocabulary::kNone) {
        fail(file_, unit + std::to_string(number),
             in_quotes(token) + ", of merge " + in_quotes(left) + " + " + in_quotes(right) +
                 ", is not in the vocabulary");
      }
      return found;
    };
    joined_.assign(left).append(right);
    const int32_t left_id = id(left), right_id = id(right);
    merges_.add(left_id, right_id, {rank_++, id(joined_)});
  }

  // One merge spelt "left right".
  void add_spelt(std::string_view merge, const char* unit, std::size_t number) {
    const std::size_t blank = merge.find(' ');
    const bool two = blank != std::string_view::npos && blank > 0 && blank + 1 < merge.size() &&
                     merge.find(' ', blank + 1) == std::string_view::npos;
    if (!two) {
      fail(file_, unit + std::to_string(number),
           "expected two parts with one blank between them, got " + in_quotes(merge));
    }
    add(merge.substr(0, blank), merge.substr(blank + 1), unit, number);
  }

 private:
  const fs::path& file_;
  const Vocabulary& vocabulary_;
  MergeTable& merges_;
  std::string joined_;
  int32_t rank_ = 0;
};

void read_merges_txt(const fs::path& file, TokenizerFiles& files) {
  const std::string text = read_text(file);
  MergeReader reader(file, files.vocabulary, files.merges);
  std::size_t number = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line = std::string_view(text).substr(at, end - at);
    if (line.ends_with('\r')) line.remove_suffix(1);
    at = end + 1;
    ++number;
    if (line.starts_with("#version")) continue;
    reader.add_spelt(line, "line ", number);
  }
}

// ---- tokenizer.json -----------------------------------------------------------------------------

const json& member(const fs::path& file, const json& object, const char* name, json::value_t type,
                   const char* expected) {
  const auto found = object.find(name);
  if (found == object.end()) fail(file, "", std::string("no \"") + name + "\", expected " + expected);
  if (found->type() != type) fail(file, name, std::string("expected ") + expected + ", got " + shown(*found));
  return *found;
}

void read_merge_array(const fs::path& file, const json& merges, TokenizerFiles& files) {
  MergeReader reader(file, files.vocabulary, files.merges);
  std::size_t number = 0;
  for (const json& merge : merges) {
    if (merge.is_string()) {  // until tokenizers 0.20
      reader.add_spelt(merge.get_ref<const std::string&>(), "model.merges, number ", number);
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      reader.add(merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>(),
                 "model.merges, number ", number);
    } else {
      fail(file, "model.merges, number " + std::to_string(number),
           "expected \"left right\" or [\"left\", \"right\"], got " + merge.dump());
    }
    ++number;
  }
}

// The reference takes CLIP's normaliser and splitting whatever this file says, so a file of another
// kind of tokenizer is refused here where it can be told.
void check_is_clip(const fs::path& file, const json& root, const json& model) {
  if (const auto type = model.find("type"); type != model.end() && *type != "BPE") {
    fail(file, "model.type", "expected \"BPE\", got " + shown(*type));
  }
  if (const auto suffix = model.find("end_of_word_suffix"); suffix != model.end() && *suffix != kEndOfWord) {
    fail(file, "model.end_of_word_suffix", "expected \"</w>\", got " + shown(*suffix));
  }
  if (const auto post = root.find("post_processor"); post != root.end() && post->is_object()) {
    const auto type = post->find("type");
    if (type != post->end() && *type != "RobertaProcessing") {
      fail(file, "post_processor.type", "expected \"RobertaProcessing\", got " + shown(*type));
    }
  }
}

json read_tokenizer_json(const fs::path& file, TokenizerFiles& files) {
  json root = read_json_object(file);
  const json& model = member(file, root, "model", json::value_t::object, "an object");
  check_is_clip(file, root, model);
  for (const auto& [token, id] :
       member(file, model, "vocab", json::value_t::object, "an object of token: id").items()) {
    if (!id.is_number_integer())
      fail(file, "model.vocab, " + in_quotes(token), "expected an integer id, got " + shown(id));
    add_token(files.vocabulary, file, token, id.get<int64_t>());
  }
  read_merge_array(file, member(file, model, "merges", json::value_t::array, "an array"), files);
  return root.contains("added_tokens") ? std::move(root["added_tokens"]) : json::array();
}

// ---- special and added tokens -------------------------------------------------------------------

constexpr std::array kNamedTokens = {"bos_token", "eos_token", "unk_token", "sep_token",
                                     "pad_token", "cls_token", "mask_token"};

// A token spelt as a string or as an object. `special` is for objects that do not say: what is
// special is not normalised unless it says so (tokenizers' AddedToken).
AddedToken read_token(const fs::path& file, const std::string& place, const json& value, bool special) {
  if (value.is_string()) return {value.get<std::string>(), false};
  if (!value.is_object() || !value.contains("content") || !value["content"].is_string()) {
    fail(file, place, "expected a token (a string, or an object with \"content\"), got " + value.dump());
  }
  const auto flag = [&](const char* name, bool otherwise) {
    const auto found = value.find(name);
    if (found == value.end()) return otherwise;
    if (!found->is_boolean()) fail(file, place + "." + name, "expected true or false, got " + shown(*found));
    return found->get<bool>();
  };
  if (flag("single_word", false)) fail(file, place, "tokens with \"single_word\": true are not supported");
  return {value["content"].get<std::string>(), flag("normalized", !flag("special", special)), flag("lstrip", false),
          flag("rstrip", false)};
}

// Collects what the configuration files say, then settles it in the order of transformers'
// TokenizersBackend.__init__.
class SpecialTokens {
 public:
  explicit SpecialTokens(TokenizerFiles& files) : files_(files) {
    named_["bos_token"] = {{files.bos_token, false}, {}};
    named_["eos_token"] = {{files.eos_token, false}, {}};
    named_["unk_token"] = {{files.unk_token, false}, {}};
    named_["pad_token"] = {{files.pad_token, false}, {}};
  }

  // tokenizer_config.json or special_tokens_map.json, a later file's word going over an earlier
  // one's.
  void read_names(const fs::path& file, const json& object, bool special) {
    for (const char* name : kNamedTokens) {
      const auto found = object.find(name);
      if (found == object.end()) continue;
      if (found->is_null()) {
        if (std::string_view(name) == "pad_token")
          fail(file, name, "null: without a padding token no prompt can be padded");
        continue;
      }
      named_[name] = {read_token(file, name, *found, special), file};
    }
    for (const char* name : {"additional_special_tokens", "extra_special_tokens"}) {
      const auto found = object.find(name);
      if (found == object.end() || !found->is_array()) continue;
      for (const json& token : *found) extra_.push_back({read_token(file, name, token, special), file});
    }
  }

  // "added_tokens_decoder" of tokenizer_config.json: {"49406": {"content": …}}.
  void read_decoder(const fs::path& file, const json& decoder) {
    if (!decoder.is_object()) fail(file, "added_tokens_decoder", "expected an object, got " + shown(decoder));
    for (const auto& [key, token] : decoder.items()) {
      const bool digits = !key.empty() && key.size() < 10 &&
                          std::all_of(key.begin(), key.end(), [](char c) { return c >= '0' && c <= '9'; });
      if (!digits) fail(file, "added_tokens_decoder", "expected an id, got " + in_quotes(key));
      declare(file, "added_tokens_decoder." + key, std::stoll(key), token);
    }
  }

  // "added_tokens" of tokenizer.json: [{"id": 49406, "content": …}].
  void read_list(const fs::path& file, const json& list) {
    if (!list.is_array()) fail(file, "added_tokens", "expected an array, got " + shown(list));
    for (std::size_t i = 0; i < list.size(); ++i) {
      const std::string place = "added_tokens, number " + std::to_string(i);
      if (!list[i].is_object() || !list[i].contains("id") || !list[i]["id"].is_number_integer()) {
        fail(file, place, "expected an object with an integer \"id\", got " + list[i].dump());
      }
      declare(file, place, list[i]["id"].get<int64_t>(), list[i]);
    }
  }

  // added_tokens.json, which transformers wrote until 4.33: {"<token>": 49408}. Special ones are
  // not normalised.
  void read_added_json(const fs::path& file, const json& object) {
    for (const auto& [token, id] : object.items()) {
      if (!id.is_number_integer()) fail(file, in_quotes(token), "expected an integer id, got " + shown(id));
      AddedToken added = {token, !is_special(token)};
      declared_[id.get<int64_t>()] = {std::move(added), file};
    }
  }

  void settle() {
    std::vector<std::string> known;
    for (const auto& [id, token] : declared_) {
      settle_id(token, id);
      known.push_back(token.token.content);
      files_.added.push_back(token.token);
    }
    const auto add = [&](const Placed& token) {
      if (std::find(known.begin(), known.end(), token.token.content) != known.end()) return;
      require_known(token);
      files_.added.push_back(token.token);
    };
    for (const char* name : kNamedTokens) {
      if (const auto found = named_.find(name); found != named_.end()) add(found->second);
    }
    for (const Placed& token : extra_) add(token);
    files_.bos_token = named_["bos_token"].token.content;
    files_.eos_token = named_["eos_token"].token.content;
    files_.unk_token = named_["unk_token"].token.content;
    files_.pad_token = named_["pad_token"].token.content;
  }

  void set_vocabulary_file(fs::path file) { vocabulary_file_ = std::move(file); }

 private:
  struct Placed {
    AddedToken token;
    fs::path file;  // empty: the reference's default
  };

  void declare(const fs::path& file, const std::string& place, int64_t id, const json& token) {
    declared_[id] = {read_token(file, place, token, false), file};
  }

  bool is_special(const std::string& content) const {
    const auto same = [&](const Placed& p) { return p.token.content == content; };
    return std::any_of(named_.begin(), named_.end(), [&](const auto& entry) { return same(entry.second); }) ||
           std::any_of(extra_.begin(), extra_.end(), same);
  }

  // The reference gives a token that the vocabulary lacks the next free id, whatever id its file
  // declares; where the two differ the checkpoint's embedding rows would be the wrong ones.
  void settle_id(const Placed& token, int64_t declared) {
    const std::string& content = token.token.content;
    int64_t id = files_.vocabulary.find(content);
    if (id == Vocabulary::kNone) {
      id = files_.vocabulary.id_end();
      add_token(files_.vocabulary, token.file, content, id);
    }
    if (id != declared) {
      fail(token.file, in_quotes(content), "expected id " + std::to_string(id) + ", got " + std::to_string(declared));
    }
  }

  void require_known(const Placed& token) const {
    if (files_.vocabulary.find(token.token.content) != Vocabulary::kNone) return;
    fail(token.file.empty() ? vocabulary_file_ : token.file, "",
         "special token " + in_quotes(token.token.content) + " is neither in the vocabulary nor an added token");
  }

  TokenizerFiles& files_;
  fs::path vocabulary_file_;
  std::map<std::string, Placed> named_;
  std::vector<Placed> extra_;
  std::map<int64_t, Placed> declared_;
};

// ---- tokenizer_config.json ----------------------------------------------------------------------

int64_t read_max_length(const fs::path& file, const json& config) {
  constexpr int64_t kClipLength = 77;
  // transformers writes 10^30 for "no limit"; CLIP's position table is the limit then.
  constexpr double kNoLimit = 65536;
  constexpr double kSmallest = 3;  // both specials and one token of text
  for (const char* name : {"model_max_length", "max_len"}) {
    const auto found = config.find(name);
    if (found == config.end() || found->is_null()) continue;
    if (!found->is_number() || found->get<double>() < kSmallest)
      fail(file, name, "expected a length of at least 3, got " + shown(*found));
    return found->get<double>() > kNoLimit ? kClipLength : found->get<int64_t>();
  }
  return kClipLength;
}

void refuse_unsupported(const fs::path& file, const json& config) {
  for (const char* side : {"padding_side", "truncation_side"}) {
    const auto found = config.find(side);
    if (found != config.end() && *found != "right")
      fail(file, side, "only \"right\" is supported, got " + shown(*found));
  }
  if (const auto split = config.find("split_special_tokens"); split != config.end() && *split == true) {
    fail(file, "split_special_tokens", "true is not supported");
  }
}

}  // namespace

TokenizerFiles TokenizerFiles::read(const fs::path& folder) {
  TokenizerFiles files;
  SpecialTokens specials(files);
  const fs::path tokenizer_json = folder / "tokenizer.json", vocab_json = folder / "vocab.json",
                 merges_txt = folder / "merges.txt";
  const fs::path config_json = folder / "tokenizer_config.json", map_json = folder / "special_tokens_map.json",
                 added_json = folder / "added_tokens.json";

  json listed = json::array();  // tokenizer.json's added tokens
  const bool single = is_there(tokenizer_json);
  if (single) {
    listed = read_tokenizer_json(tokenizer_json, files);
  } else if (is_there(vocab_json) && is_there(merges_txt)) {
    VocabReader reader(vocab_json, files.vocabulary);
    json::sax_parse(read_text(vocab_json), &reader);
    read_merges_txt(merges_txt, files);
  } else {
    fail(folder, "",
         "expected vocab.json and merges.txt, or tokenizer.json; " +
             std::string(is_there(vocab_json)   ? "merges.txt is missing"
                         : is_there(merges_txt) ? "vocab.json is missing"
                                                : "none of them is there"));
  }
  specials.set_vocabulary_file(single ? tokenizer_json : vocab_json);

  json config = json::object();
  if (is_there(config_json)) {
    config = read_json_object(config_json);
    refuse_unsupported(config_json, config);
    files.max_length = read_max_length(config_json, config);
    specials.read_names(config_json, config, false);
  }
  // transformers ≥ 4.34 writes all added tokens into tokenizer_config.json; then the older files
  // are not looked at.
  if (config.contains("added_tokens_decoder")) {
    specials.read_decoder(config_json, config["added_tokens_decoder"]);
  } else {
    if (is_there(map_json)) specials.read_names(map_json, read_json_object(map_json), true);
    if (is_there(added_json)) specials.read_added_json(added_json, read_json_object(added_json));
    specials.read_list(tokenizer_json, listed);
  }
  specials.settle();
  return files;
}

}  // namespace easel
