#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

#include "easel/text.h"
#include "text/bpe.h"
#include "text/byte_level.h"
#include "text/tokenizer_files.h"
#include "text/unicode.h"

namespace easel {

namespace {

// NFC, white space to one blank, lower case: in this order, so İ ends as i and U+0307 and is not
// composed again.
std::string normalize(std::string_view text) {
  const std::string composed = unicode::nfc(text);
  std::string out;
  out.reserve(composed.size());
  bool after_space = false;
  for (std::size_t at = 0; at < composed.size();) {
    const auto step = unicode::utf8_step(composed, at);
    at += step.length;
    const bool space = unicode::is_space(step.c);
    if (!space) unicode::append_lower(out, step.c);
    if (space && !after_space) out += ' ';
    after_space = space;
  }
  return out;
}

// ---- words --------------------------------------------------------------------------------------

// The bytes from `at` on whose characters satisfy `belongs`.
template <class Belongs>
std::size_t run_length(std::string_view text, std::size_t at, Belongs belongs) {
  std::size_t end = at;
  while (end < text.size()) {
    const auto step = unicode::utf8_step(text, end);
    if (!belongs(step.c)) break;
    end += step.length;
  }
  return end - at;
}

// Calls use(word) for each match of CLIP's pattern in normalised text:
//   <\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+
// A special token's name that comes here was not found as a token (it is in capitals and looked for
// in raw text only); the ByteLevel step then splits it once more with GPT-2's pattern: "<|", the
// letters, "|>".
template <class Use>
void split_words(std::string_view text, Use use) {
  static constexpr std::array<std::string_view, 2> kNames = {"<|startoftext|>", "<|endoftext|>"};
  static constexpr std::array<std::string_view, 7> kContractions = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
  const auto is_other = [](char32_t c) {
    return !unicode::is_space(c) && !unicode::is_letter(c) && !unicode::is_number(c);
  };
  for (std::size_t at = 0; at < text.size();) {
    const std::string_view rest = text.substr(at);
    const auto begins = [&](std::string_view word) { return rest.starts_with(word); };
    if (const auto name = std::find_if(kNames.begin(), kNames.end(), begins); name != kNames.end()) {
      use(rest.substr(0, 2));
      use(rest.substr(2, name->size() - 4));
      use(rest.substr(name->size() - 2, 2));
      at += name->size();
      continue;
    }
    const auto first = unicode::utf8_step(text, at);
    std::size_t length = first.length;
    if (const auto c = std::find_if(kContractions.begin(), kContractions.end(), begins); c != kContractions.end()) {
      length = c->size();
    } else if (unicode::is_letter(first.c)) {
      length = run_length(text, at, unicode::is_letter);
    } else if (is_other(first.c)) {
      length = run_length(text, at, is_other);
    }
    if (!unicode::is_space(first.c)) use(rest.substr(0, length));
    at += length;
  }
}

// ---- added tokens -------------------------------------------------------------------------------

struct Pattern {
  std::string text;  // what is looked for
  int32_t id;
  bool lstrip, rstrip;
};

std::size_t spaces_before(std::string_view text, std::size_t end, std::size_t from) {
  std::size_t start = end;
  for (std::size_t at = from; at < end;) {
    const auto step = unicode::utf8_step(text, at);
    if (!unicode::is_space(step.c))
      start = end;
    else if (start == end)
      start = at;
    at += step.length;
  }
  return start;
}

// Cuts `text` at the patterns, the leftmost first and of several the longest: calls use_text on
// what is between them (never empty) and use_id on each, in order (tokenizers,
// AddedVocabulary::find_matches).
template <class UseText, class UseId>
void split_at(std::string_view text, const std::vector<Pattern>& patterns, UseText use_text, UseId use_id) {
  std::size_t done = 0;
  for (std::size_t at = 0; at < text.size();) {
    const Pattern* longest = nullptr;
    for (const Pattern& p : patterns) {
      if (text.substr(at).starts_with(p.text) && (longest == nullptr || p.text.size() > longest->text.size()))
        longest = &p;
    }
    if (longest == nullptr) {
      ++at;
      continue;
    }
    const std::size_t start = longest->lstrip ? spaces_before(text, at, done) : at;
    std::size_t stop = at + longest->text.size();
    if (longest->rstrip) stop += run_length(text, stop, unicode::is_space);
    if (start > done) use_text(text.substr(done, start - done));
    use_id(longest->id);
    at = done = stop;
  }
  if (done < text.size()) use_text(text.substr(done));
}

std::string_view strip(std::string_view text) {
  // Python's str.strip() also takes the four separators of ASCII.
  const auto strips = [](char32_t c) { return unicode::is_space(c) || (c >= 0x1C && c <= 0x1F); };
  std::size_t end = 0;
  const std::size_t start = run_length(text, 0, strips);
  for (std::size_t at = start; at < text.size();) {
    const auto step = unicode::utf8_step(text, at);
    at += step.length;
    if (!strips(step.c)) end = at;
  }
  return end == 0 ? std::string_view() : text.substr(start, end - start);
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  std::string out;
  std::size_t done = 0;
  for (std::size_t at; (at = text.find(from, done)) != std::string::npos; done = at + from.size()) {
    out.append(text, done, at - done).append(to);
  }
  text = out.append(text, done);
}

}  // namespace

// ---- ClipTokenizer ------------------------------------------------------------------------------

struct ClipTokenizer::Impl {
  Vocabulary vocabulary;
  Bpe bpe;
  std::vector<Pattern> raw_patterns, normalized_patterns;
  int64_t max_length, bos_id, eos_id, pad_id, comma_id;

  explicit Impl(TokenizerFiles files)
      : vocabulary(std::move(files.vocabulary)),
        bpe(vocabulary, std::move(files.merges), vocabulary.find(files.unk_token)),
        max_length(files.max_length),
        bos_id(vocabulary.find(files.bos_token)),
        eos_id(vocabulary.find(files.eos_token)),
        pad_id(vocabulary.find(files.pad_token)),
        comma_id(vocabulary.find(",</w>")) {
    const auto& added = files.added;
    for (auto token = added.begin(); token != added.end(); ++token) {
      const auto same = [&](const AddedToken& later) { return later.content == token->content; };
      if (token->content.empty() || std::any_of(token + 1, added.end(), same)) continue;
      auto& patterns = token->normalized ? normalized_patterns : raw_patterns;
      patterns.push_back({token->normalized ? normalize(token->content) : token->content,
                          vocabulary.find(token->content), token->lstrip, token->rstrip});
    }
  }
};

ClipTokenizer::ClipTokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ClipTokenizer::~ClipTokenizer() = default;
ClipTokenizer::ClipTokenizer(ClipTokenizer&&) noexcept = default;
ClipTokenizer& ClipTokenizer::operator=(ClipTokenizer&&) noexcept = default;

ClipTokenizer ClipTokenizer::from_folder(const std::filesystem::path& folder) {
  return ClipTokenizer(std::make_unique<Impl>(TokenizerFiles::read(folder)));
}

ClipTokenizer ClipTokenizer::from_folder(const std::filesystem::path& folder,
                                         const std::filesystem::path& tokenizer_config) {
  return ClipTokenizer(std::make_unique<Impl>(TokenizerFiles::read(folder, tokenizer_config)));
}

std::vector<int64_t> ClipTokenizer::encode(std::string_view text) const {
  if (const auto at = invalid_utf8_at(text)) {
    char byte[8];
    std::snprintf(byte, sizeof byte, "0x%02X", static_cast<unsigned char>(text[*at]));
    throw Error(ErrorKind::kUsage, "the prompt is not valid UTF-8 at byte " + std::to_string(*at) + " (" + byte + ")",
                "write the prompt in UTF-8; `iconv -t utf-8` converts a file");
  }
  std::vector<int64_t> ids;
  const auto use_id = [&](int32_t id) { ids.push_back(id); };
  const auto use_word = [&](std::string_view word) { impl_->bpe.append_word(ids, word); };
  const auto use_normalized = [&](std::string_view part) { split_words(part, use_word); };
  const auto use_raw = [&](std::string_view part) {
    split_at(normalize(part), impl_->normalized_patterns, use_normalized, use_id);
  };
  split_at(text, impl_->raw_patterns, use_raw, use_id);
  return ids;
}

TokenizedPrompt ClipTokenizer::tokenize(std::string_view prompt) const {
  std::vector<int64_t> text = encode(prompt);
  const auto room = static_cast<std::size_t>(impl_->max_length - 2);
  TokenizedPrompt result;
  if (text.size() > room) {
    const std::vector<int64_t> rest(text.begin() + static_cast<std::ptrdiff_t>(room), text.end());
    result.cut = decode(rest);
    result.cut_length = static_cast<int64_t>(rest.size());
    text.resize(room);
  }
  result.ids.reserve(room + 2);
  result.ids.push_back(impl_->bos_id);
  result.ids.insert(result.ids.end(), text.begin(), text.end());
  result.ids.push_back(impl_->eos_id);
  result.length = static_cast<int64_t>(result.ids.size());
  result.ids.resize(room + 2, impl_->pad_id);
  return result;
}

std::string ClipTokenizer::decode(const std::vector<int64_t>& ids) const {
  std::string bytes;
  for (const int64_t id : ids) {
    if (impl_->vocabulary.has(id)) byte_level::append_bytes(bytes, impl_->vocabulary.token(id));
  }
  std::string text = unicode::utf8_lossy(bytes);
  replace_all(text, kEndOfWord, " ");
  return std::string(strip(text));
}

int64_t ClipTokenizer::max_length() const { return impl_->max_length; }
int64_t ClipTokenizer::bos_id() const { return impl_->bos_id; }
int64_t ClipTokenizer::eos_id() const { return impl_->eos_id; }
int64_t ClipTokenizer::pad_id() const { return impl_->pad_id; }
int64_t ClipTokenizer::vocab_size() const { return impl_->vocabulary.id_end(); }

ChunkRules ClipTokenizer::chunk_rules() const {
  return {[this](std::string_view text) { return encode(text); },
          max_length(),
          bos_id(),
          eos_id(),
          pad_id(),
          impl_->comma_id};
}

}  // namespace easel
