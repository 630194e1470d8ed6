// AND, [from:to:when] and [a|b]: the reference is prompt_parser.py of AUTOMATIC1111's web UI.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <set>

#include "easel/core.h"
#include "easel/prompt.h"

namespace easel {

namespace {

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

// A byte of a word in Python's sense; letters beyond ASCII are.
bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}

// [+-]digits with or without a point; an exponent where `exponent`.
std::optional<double> number_of(std::string_view text, bool exponent) {
  const std::string_view allowed = exponent ? "0123456789.eE+-" : "0123456789.";
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  if (text.empty() || text.find_first_not_of(allowed) != std::string_view::npos || text.front() == '-' ||
      text.front() == 'e' || text.front() == 'E')
    return std::nullopt;
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return negative ? -value : value;
}

// ---- the tree -----------------------------------------------------------------------------------------------------

struct Node;
using Nodes = std::vector<Node>;

struct Node {
  std::string text = {};            // of plain text; what follows is then empty
  std::vector<Nodes> choices = {};  // of [a|b]; of [from:to:when], two
  std::optional<double> when = {};  // as written
  bool is_share = false;
};

// One bracket's content between its outer colons or bars.
struct Bracket {
  std::size_t end = 0;  // behind the closing bracket
  std::vector<std::string_view> parts;
  char separator = 0;  // ':', '|' or none
};

// The bracket that begins at `at`; nullopt where what is in it does not belong together. Colons and bars in brackets of
// its own do not count.
std::optional<Bracket> bracket_at(std::string_view text, std::size_t at) {
  constexpr std::size_t kDeepest = 64;  // also keeps what a stranger leaves open from being read over and over
  Bracket bracket;
  std::string open = "[";
  std::size_t begin = at + 1;
  for (std::size_t i = at + 1; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\\') {
      ++i;
    } else if (c == '[' || c == '(') {
      open += c;
      if (open.size() > kDeepest) return std::nullopt;
    } else if (c == ']' || c == ')') {
      if (open.back() != (c == ']' ? '[' : '(')) return std::nullopt;
      open.pop_back();
      if (!open.empty()) continue;
      bracket.parts.push_back(text.substr(begin, i - begin));
      bracket.end = i + 1;
      return bracket;
    } else if ((c == ':' || c == '|') && open.size() == 1) {
      if (bracket.separator != 0 && bracket.separator != c) return std::nullopt;
      bracket.separator = c;
      bracket.parts.push_back(text.substr(begin, i - begin));
      begin = i + 1;
    }
  }
  return std::nullopt;
}

Nodes parse(std::string_view text);

// nullopt: a bracket that only weighs, or is text.
std::optional<Node> scheduled_node(const Bracket& bracket) {
  Node node;
  if (bracket.separator == '|') {
    for (const std::string_view part : bracket.parts) node.choices.push_back(parse(part));
    return node;
  }
  const std::size_t count = bracket.parts.size();
  if (bracket.separator != ':' || count > 3) return std::nullopt;
  const std::string_view when = trimmed(bracket.parts.back());
  node.when = number_of(when, /*exponent=*/true);
  if (!node.when) return std::nullopt;
  node.is_share = when.find('.') != std::string_view::npos;
  node.choices.push_back(count == 3 ? parse(bracket.parts[0]) : Nodes());
  node.choices.push_back(parse(bracket.parts[count - 2]));
  return node;
}

Nodes parse(std::string_view text) {
  Nodes nodes;
  std::string plain;
  for (std::size_t i = 0; i < text.size();) {
    const bool escaped = text[i] == '\\' && i + 1 < text.size();
    std::optional<Bracket> bracket;
    if (text[i] == '[') bracket = bracket_at(text, i);
    std::optional<Node> node;
    if (bracket) node = scheduled_node(*bracket);
    if (node) {
      if (!plain.empty()) nodes.push_back({.text = std::move(plain)});
      plain.clear();
      nodes.push_back(std::move(*node));
      i = bracket->end;
    } else {
      plain += text.substr(i, escaped ? 2 : 1);
      i += escaped ? 2 : 1;
    }
  }
  if (!plain.empty()) nodes.push_back({.text = std::move(plain)});
  return nodes;
}

// ---- the texts ----------------------------------------------------------------------------------------------------

struct Pass {
  int64_t steps;
  std::optional<int64_t> before;
};

// The step up to which the first text stands.
int64_t change_of(const Node& node, const Pass& pass) {
  const double value = node.is_share ? (*node.when - (pass.before ? 1 : 0)) * static_cast<double>(pass.steps)
                                     : *node.when - static_cast<double>(pass.before.value_or(0));
  const auto steps = static_cast<double>(pass.steps);
  return static_cast<int64_t>(std::trunc(std::clamp(value, -1.0, steps)));
}

void collect_changes(const Nodes& nodes, const Pass& pass, std::set<int64_t>& changes) {
  for (const Node& node : nodes) {
    if (node.choices.empty()) continue;
    if (node.when && change_of(node, pass) >= 1) changes.insert(change_of(node, pass));
    for (int64_t step = 1; !node.when && step <= pass.steps; ++step) changes.insert(step);
    for (const Nodes& choice : node.choices) collect_changes(choice, pass, changes);
  }
}

void append_text(const Nodes& nodes, int64_t step, const Pass& pass, std::string& out) {
  for (const Node& node : nodes) {
    if (node.choices.empty()) {
      out += node.text;
    } else if (node.when) {
      append_text(node.choices[step <= change_of(node, pass) ? 0 : 1], step, pass, out);
    } else {
      append_text(node.choices[static_cast<std::size_t>(step - 1) % node.choices.size()], step, pass, out);
    }
  }
}

}  // namespace

std::vector<ComposedText> split_composition(std::string_view prompt) {
  std::vector<std::string_view> parts;
  std::size_t begin = 0;
  for (std::size_t at = 0; (at = prompt.find("AND", at)) != std::string_view::npos; at += 3) {
    const bool before = at == 0 || !is_word(prompt[at - 1]);
    const bool after = at + 3 == prompt.size() || !is_word(prompt[at + 3]);
    if (!before || !after) continue;
    parts.push_back(prompt.substr(begin, at - begin));
    begin = at + 3;
  }
  parts.push_back(prompt.substr(begin));
  // The reference reads a weight off a lone prompt too, so that "a frame of 16:9" is drawn nine times as hard.
  if (parts.size() == 1) return {{std::string(prompt), 1}};
  std::vector<ComposedText> out;
  for (const std::string_view part : parts) {
    const std::size_t colon = part.rfind(':');
    const auto weight =
        colon == std::string_view::npos ? std::nullopt : number_of(trimmed(part.substr(colon + 1)), /*exponent=*/false);
    out.push_back({std::string(trimmed(weight ? part.substr(0, colon) : part)), weight.value_or(1)});
  }
  return out;
}

std::vector<ScheduledText> scheduled_texts(std::string_view prompt, int64_t steps, std::optional<int64_t> first_pass) {
  const Nodes nodes = parse(prompt);
  const Pass pass{steps, first_pass};
  std::set<int64_t> changes = {steps};
  collect_changes(nodes, pass, changes);
  std::vector<ScheduledText> schedule;
  for (const int64_t step : changes) {
    std::string text;
    append_text(nodes, step, pass, text);
    if (!schedule.empty() && schedule.back().text == text)
      schedule.back().last_step = step;
    else
      schedule.push_back({step, std::move(text)});
  }
  return schedule;
}

const std::string& text_at(const std::vector<ScheduledText>& schedule, int64_t step) {
  for (const ScheduledText& entry : schedule) {
    if (step <= entry.last_step) return entry.text;
  }
  return schedule.back().text;
}

}  // namespace easel
