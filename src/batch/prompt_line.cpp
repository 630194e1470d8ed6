#include "batch/prompt_line.h"

#include "batch/json_line.h"

namespace easel {

namespace {

bool is_blank(char c) { return c == ' ' || c == '\t'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

// Past the quote that closes the one at `at`; npos where none does. POSIX shlex's rule: \" and \\ are escapes.
std::size_t end_of_quoted(std::string_view line, std::size_t at) {
  for (std::size_t i = at + 1; i < line.size(); ++i) {
    if (line[i] == '"') return i + 1;
    if (line[i] == '\\' && i + 1 < line.size() && (line[i + 1] == '"' || line[i + 1] == '\\')) ++i;
  }
  return std::string_view::npos;
}

// Quotes around the whole fall away; elsewhere they are text. \" is a quote, \\ within quotes a backslash.
std::string unquoted(std::string_view text) {
  const bool is_whole = text.starts_with('"') && end_of_quoted(text, 0) == text.size();
  if (is_whole) text = text.substr(1, text.size() - 2);
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool escapes =
        text[i] == '\\' && i + 1 < text.size() && (text[i + 1] == '"' || (is_whole && text[i + 1] == '\\'));
    if (escapes) ++i;
    out += text[i];
  }
  return out;
}

// Where the next " --word" begins, at `at` or after; line.size() if there is none. Quotes at the start of a word group.
std::size_t next_flag(std::string_view line, std::size_t at, std::string& fault) {
  bool word_starts = at == 0 || is_blank(line[at - 1]);
  while (at < line.size()) {
    if (word_starts && line.substr(at).starts_with("--") && at + 2 < line.size() && is_letter(line[at + 2])) return at;
    if (word_starts && line[at] == '"') {
      const std::size_t end = end_of_quoted(line, at);
      if (end == std::string_view::npos) {
        fault = "a double quote is not closed: " + cut_short(line.substr(at), 60) + "; \\\" is a literal one";
        return line.size();
      }
      at = end;
      word_starts = false;
      continue;
    }
    word_starts = is_blank(line[at]);
    ++at;
  }
  return at;
}

}  // namespace

PromptLine split_prompt_line(std::string_view line) {
  PromptLine out;
  line = trimmed(line);
  std::size_t at = next_flag(line, 0, out.fault);
  if (at > 0) out.text = unquoted(trimmed(line.substr(0, at)));
  while (at < line.size()) {
    const std::size_t name_end = std::min(line.find_first_of(" \t", at), line.size());
    const std::size_t next = next_flag(line, name_end, out.fault);
    const std::string_view value = trimmed(line.substr(name_end, next - name_end));
    PromptFlag flag{std::string(line.substr(at + 2, name_end - at - 2)), std::nullopt};
    if (!value.empty()) flag.value = unquoted(value);
    out.flags.push_back(std::move(flag));
    at = next;
  }
  return out;
}

}  // namespace easel
