#include "text/vocabulary_files.h"

#include <utility>

#include "text/tokenizer_reading.h"

namespace easel {

namespace fs = std::filesystem;

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

namespace {

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

}  // namespace

void read_vocab_json(const fs::path& file, TokenizerFiles& files) {
  VocabReader reader(file, files.vocabulary);
  json::sax_parse(read_text(file), &reader);
}

// ---- merges -------------------------------------------------------------------------------------

namespace {

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

}  // namespace

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

namespace {

const json& member(const fs::path& file, const json& object, const char* name, json::value_t type,
                   const char* expected) {
  const auto found = object.find(name);
  if (found == object.end()) fail(file, "", std::string("no \"") + name + "\", expected " + expected);
  if (found->type() != type) fail(file, name, std::string("expected ") + expected + ", got " + value_or_type(*found));
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
    fail(file, "model.type", "expected \"BPE\", got " + value_or_type(*type));
  }
  if (const auto suffix = model.find("end_of_word_suffix"); suffix != model.end() && *suffix != kEndOfWord) {
    fail(file, "model.end_of_word_suffix", "expected \"</w>\", got " + value_or_type(*suffix));
  }
  if (const auto post = root.find("post_processor"); post != root.end() && post->is_object()) {
    const auto type = post->find("type");
    if (type != post->end() && *type != "RobertaProcessing") {
      fail(file, "post_processor.type", "expected \"RobertaProcessing\", got " + value_or_type(*type));
    }
  }
}

}  // namespace

json read_tokenizer_json(const fs::path& file, TokenizerFiles& files) {
  json root = read_json_object(file);
  const json& model = member(file, root, "model", json::value_t::object, "an object");
  check_is_clip(file, root, model);
  for (const auto& [token, id] :
       member(file, model, "vocab", json::value_t::object, "an object of token: id").items()) {
    if (!id.is_number_integer())
      fail(file, "model.vocab, " + in_quotes(token), "expected an integer id, got " + value_or_type(id));
    add_token(files.vocabulary, file, token, id.get<int64_t>());
  }
  read_merge_array(file, member(file, model, "merges", json::value_t::array, "an array"), files);
  return root.contains("added_tokens") ? std::move(root["added_tokens"]) : json::array();
}

}  // namespace easel
