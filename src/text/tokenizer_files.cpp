#include "text/tokenizer_files.h"

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "text/tokenizer_reading.h"
#include "text/vocabulary_files.h"

namespace easel {

namespace {

namespace fs = std::filesystem;

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
    if (!found->is_boolean()) fail(file, place + "." + name, "expected true or false, got " + value_or_type(*found));
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
    if (!decoder.is_object()) fail(file, "added_tokens_decoder", "expected an object, got " + value_or_type(decoder));
    for (const auto& [key, token] : decoder.items()) {
      const bool digits = !key.empty() && key.size() < 10 &&
                          std::all_of(key.begin(), key.end(), [](char c) { return c >= '0' && c <= '9'; });
      if (!digits) fail(file, "added_tokens_decoder", "expected an id, got " + in_quotes(key));
      declare(file, "added_tokens_decoder." + key, std::stoll(key), token);
    }
  }

  // "added_tokens" of tokenizer.json: [{"id": 49406, "content": …}].
  void read_list(const fs::path& file, const json& list) {
    if (!list.is_array()) fail(file, "added_tokens", "expected an array, got " + value_or_type(list));
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
      if (!id.is_number_integer()) fail(file, in_quotes(token), "expected an integer id, got " + value_or_type(id));
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
      fail(file, name, "expected a length of at least 3, got " + value_or_type(*found));
    return found->get<double>() > kNoLimit ? kClipLength : found->get<int64_t>();
  }
  return kClipLength;
}

void refuse_unsupported(const fs::path& file, const json& config) {
  for (const char* side : {"padding_side", "truncation_side"}) {
    const auto found = config.find(side);
    if (found != config.end() && *found != "right")
      fail(file, side, "only \"right\" is supported, got " + value_or_type(*found));
  }
  if (const auto split = config.find("split_special_tokens"); split != config.end() && *split == true) {
    fail(file, "split_special_tokens", "true is not supported");
  }
}

// Into `files` and `specials`; the added tokens that tokenizer.json lists.
json read_vocabulary(const fs::path& folder, TokenizerFiles& files, SpecialTokens& specials) {
  const fs::path tokenizer_json = folder / "tokenizer.json", vocab_json = folder / "vocab.json",
                 merges_txt = folder / "merges.txt";
  if (is_there(tokenizer_json)) {
    specials.set_vocabulary_file(tokenizer_json);
    return read_tokenizer_json(tokenizer_json, files);
  }
  if (!is_there(vocab_json) || !is_there(merges_txt)) {
    fail(folder, "",
         "expected vocab.json and merges.txt, or tokenizer.json; " +
             std::string(is_there(vocab_json)   ? "merges.txt is missing"
                         : is_there(merges_txt) ? "vocab.json is missing"
                                                : "none of them is there"));
  }
  specials.set_vocabulary_file(vocab_json);
  read_vocab_json(vocab_json, files);
  read_merges_txt(merges_txt, files);
  return json::array();
}

json read_config(const fs::path& file, TokenizerFiles& files, SpecialTokens& specials) {
  json config = read_json_object(file);
  refuse_unsupported(file, config);
  files.max_length = read_max_length(file, config);
  specials.read_names(file, config, false);
  return config;
}

}  // namespace

TokenizerFiles TokenizerFiles::read(const fs::path& folder) {
  TokenizerFiles files;
  SpecialTokens specials(files);
  const json listed = read_vocabulary(folder, files, specials);
  const fs::path config_json = folder / "tokenizer_config.json", map_json = folder / "special_tokens_map.json",
                 added_json = folder / "added_tokens.json";
  const json config = is_there(config_json) ? read_config(config_json, files, specials) : json::object();
  // transformers ≥ 4.34 writes all added tokens into tokenizer_config.json; then the older files
  // are not looked at.
  if (config.contains("added_tokens_decoder")) {
    specials.read_decoder(config_json, config["added_tokens_decoder"]);
  } else {
    if (is_there(map_json)) specials.read_names(map_json, read_json_object(map_json), true);
    if (is_there(added_json)) specials.read_added_json(added_json, read_json_object(added_json));
    specials.read_list(folder / "tokenizer.json", listed);
  }
  specials.settle();
  return files;
}

TokenizerFiles TokenizerFiles::read(const fs::path& folder, const fs::path& tokenizer_config) {
  TokenizerFiles files;
  SpecialTokens specials(files);
  read_vocabulary(folder, files, specials);
  const json config = read_config(tokenizer_config, files, specials);
  if (config.contains("added_tokens_decoder")) specials.read_decoder(tokenizer_config, config["added_tokens_decoder"]);
  specials.settle();
  return files;
}

}  // namespace easel
