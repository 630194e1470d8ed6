// (x:1.3), [x] and BREAK: the reference is parse_prompt_attention of AUTOMATIC1111's web UI.
#include <charconv>
#include <cmath>

#include "easel/prompt.h"

namespace easel {

namespace {

constexpr double kRound = 1.1, kSquare = 1 / 1.1;
constexpr std::string_view kBreak = "BREAK";

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool is_word(char c) {  // letters beyond ASCII are
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}

// ":1.3)" at `at`: the weight, and where it ends.
struct ClosingWeight {
  double weight;
  std::size_t end;
};

std::optional<ClosingWeight> closing_weight_at(std::string_view text, std::size_t at) {
  const auto skip_spaces = [&](std::size_t i) {
    while (i < text.size() && is_space(text[i])) ++i;
    return i;
  };
  std::size_t begin = skip_spaces(at + 1), end = begin;
  if (end < text.size() && (text[end] == '+' || text[end] == '-')) ++end;
  while (end < text.size() && (text[end] == '.' || (text[end] >= '0' && text[end] <= '9'))) ++end;
  const std::size_t close = skip_spaces(end);
  if (close >= text.size() || text[close] != ')') return std::nullopt;
  if (text[begin] == '+') ++begin;
  double weight = 0;
  const auto [stop, error] = std::from_chars(text.data() + begin, text.data() + end, weight);
  if (error != std::errc() || stop != text.data() + end) return std::nullopt;  // "1.2.3" stays text
  return ClosingWeight{weight, close + 1};
}

class WeightReader {
 public:
  explicit WeightReader(std::string_view text) : text_(text) {}

  std::vector<WeightedText> read() {
    for (std::size_t at = 0; at < text_.size();) at = piece(at);
    unclosed_ = round_.size() + square_.size();
    for (const std::size_t from : round_) multiply(from, kRound);
    for (const std::size_t from : square_) multiply(from, kSquare);
    if (texts_.empty()) texts_.push_back({});
    merge();
    return std::move(texts_);
  }

  std::size_t unclosed() const { return unclosed_; }
  std::size_t unopened() const { return unopened_; }

 private:
  // Reads one piece; where the next one begins.
  std::size_t piece(std::size_t at) {
    const char c = text_[at];
    if (c == '\\') return escape(at);
    if (c == '(' || c == '[') {
      (c == '(' ? round_ : square_).push_back(texts_.size());
      return at + 1;
    }
    if (c == ':' && !round_.empty()) {
      if (const auto closing = closing_weight_at(text_, at)) {
        close(round_, closing->weight);
        return closing->end;
      }
    }
    if (c == ')' && !round_.empty()) return close(round_, kRound), at + 1;
    if (c == ']' && !square_.empty()) return close(square_, kSquare), at + 1;
    if (c == ')' || c == ']' || c == ':') {
      unopened_ += c != ':';
      texts_.push_back({std::string(1, c)});
      return at + 1;
    }
    const std::size_t end = std::min(text_.find_first_of("\\()[]:", at), text_.size());
    plain(text_.substr(at, end - at));
    return end;
  }

  std::size_t escape(std::size_t at) {
    const bool letter =
        at + 1 < text_.size() && std::string_view("()[]\\").find(text_[at + 1]) != std::string_view::npos;
    texts_.push_back({letter ? std::string(1, text_[at + 1]) : ""});  // a lone backslash vanishes
    return at + (letter ? 2 : 1);
  }

  // Text without brackets, cut at the word BREAK, which takes the blanks around it along.
  void plain(std::string_view text) {
    std::size_t begin = 0;
    for (std::size_t at = 0; (at = text.find(kBreak, at)) != std::string_view::npos;) {
      const std::size_t end = at + kBreak.size();
      if ((at > 0 && is_word(text[at - 1])) || (end < text.size() && is_word(text[end]))) {
        at = end;
        continue;
      }
      std::size_t stop = at;
      while (stop > begin && is_space(text[stop - 1])) --stop;
      texts_.push_back({std::string(text.substr(begin, stop - begin))});
      texts_.push_back({.text = "", .weight = 1, .is_break = true});
      for (begin = end; begin < text.size() && is_space(text[begin]);) ++begin;
      at = begin;
    }
    texts_.push_back({std::string(text.substr(begin))});
  }

  void close(std::vector<std::size_t>& open, double weight) {
    multiply(open.back(), weight);
    open.pop_back();
  }

  void multiply(std::size_t from, double weight) {
    for (std::size_t i = from; i < texts_.size(); ++i) texts_[i].weight *= weight;
  }

  void merge() {
    std::vector<WeightedText> merged;
    for (WeightedText& text : texts_) {
      const bool joins =
          !merged.empty() && !text.is_break && !merged.back().is_break && merged.back().weight == text.weight;
      if (joins)
        merged.back().text += text.text;
      else
        merged.push_back(std::move(text));
    }
    texts_ = std::move(merged);
  }

  std::string_view text_;
  std::vector<WeightedText> texts_;
  std::vector<std::size_t> round_, square_;  // where each open bracket's texts begin
  std::size_t unclosed_ = 0, unopened_ = 0;
};

}  // namespace

std::vector<WeightedText> weighted_texts(std::string_view text) { return WeightReader(text).read(); }

std::vector<std::string> oddities_of(std::string_view prompt) {
  WeightReader reader(prompt);
  reader.read();
  std::vector<std::string> oddities;
  const auto brackets = [](std::size_t count) {
    return std::to_string(count) + (count == 1 ? " bracket is" : " brackets are");
  };
  if (reader.unclosed() > 0)
    oddities.push_back(brackets(reader.unclosed()) + " not closed: the weight goes on to the end");
  if (reader.unopened() > 0) oddities.push_back(brackets(reader.unopened()) + " closed without being opened: text");
  return oddities;
}

}  // namespace easel
