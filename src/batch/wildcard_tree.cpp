#include "batch/wildcard_tree.h"

#include <algorithm>

#include "batch/json_line.h"

namespace easel {

namespace {

constexpr int kDeepestBraces = 50;
constexpr std::size_t kLongestName = 100;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool can_be_in_name(char c) {
  const bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  return is_letter || is_digit(c) || c == '-' || c == '_' || c == '/' || c == '.' ||
         static_cast<unsigned char>(c) >= 0x80;
}

class Parser {
 public:
  Parser(std::string_view prompt, std::string& fault) : prompt_(prompt), fault_(fault) {}

  // To the end, or inside braces to '|' or '}'.
  WildcardText sequence(int depth) {
    WildcardText pieces;
    while (at_ < prompt_.size() && fault_.empty()) {
      const char c = prompt_[at_];
      if (depth > 0 && (c == '|' || c == '}')) break;
      if (c == '{') {
        pieces.push_back(choice(depth));
      } else if (c == '}') {
        fail("a '}' without its '{'", at_);
      } else if (const std::string_view name = file_name(); !name.empty()) {
        pieces.push_back({WildcardPiece::Kind::kFile, std::string(name)});
        at_ += name.size() + 4;
      } else {
        add_character(pieces);
      }
    }
    return pieces;
  }

 private:
  WildcardPiece choice(int depth) {
    const std::size_t begin = at_;
    WildcardPiece piece{WildcardPiece::Kind::kChoice};
    if (depth == kDeepestBraces) fail("braces are nested deeper than " + std::to_string(kDeepestBraces), begin);
    do {
      ++at_;  // '{' or '|'
      check_no_count(begin);
      if (!fault_.empty()) return piece;
      piece.choices.push_back(sequence(depth + 1));
    } while (at_ < prompt_.size() && prompt_[at_] == '|' && fault_.empty());
    if (!fault_.empty()) return piece;
    if (at_ == prompt_.size()) {
      fail("a '{' is not closed", begin);
    } else if (piece.choices.size() == 1) {
      fail("braces without '|' choose nothing", begin);
    }
    ++at_;
    return piece;
  }

  // {2$$a|b}, several of them, is another program's.
  void check_no_count(std::size_t begin) {
    std::size_t i = at_;
    while (i < prompt_.size() && (is_digit(prompt_[i]) || prompt_[i] == '-')) ++i;
    if (prompt_.substr(i).starts_with("$$")) fail("'$$' is not supported: braces choose one", begin);
  }

  // NAME where the prompt goes on with __NAME__.
  std::string_view file_name() const {
    if (!prompt_.substr(at_).starts_with("__")) return {};
    const std::string_view rest = prompt_.substr(at_ + 2, kLongestName + 2);
    const std::size_t end = rest.find("__", 1);
    if (end == std::string_view::npos) return {};
    const std::string_view name = rest.substr(0, end);
    return name[0] != '_' && std::all_of(name.begin(), name.end(), can_be_in_name) ? name : std::string_view{};
  }

  void add_character(WildcardText& pieces) {
    if (pieces.empty() || pieces.back().kind != WildcardPiece::Kind::kText)
      pieces.push_back({WildcardPiece::Kind::kText});
    const std::string_view rest = prompt_.substr(at_);
    std::size_t length = 1;
    if (rest.starts_with("\\__")) {
      length = 3;
    } else if (rest[0] == '\\' && rest.size() > 1 && (rest[1] == '{' || rest[1] == '}' || rest[1] == '|')) {
      length = 2;
    } else {
      pieces.back().text += rest[0];
      ++at_;
      return;
    }
    pieces.back().text += rest.substr(1, length - 1);
    at_ += length;
  }

  void fail(const std::string& what, std::size_t at) {
    if (fault_.empty()) fault_ = what + ": " + cut_short(prompt_.substr(at), 60) + " (\\{ and \\} are literal braces)";
  }

  std::string_view prompt_;
  std::string& fault_;
  std::size_t at_ = 0;
};

}  // namespace

WildcardText parse_wildcards(std::string_view prompt, std::string& fault) { return Parser(prompt, fault).sequence(0); }

}  // namespace easel
