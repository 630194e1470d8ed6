#include <fstream>
#include <set>

#include "batch/json_line.h"
#include "batch/wildcard_tree.h"
#include "easel/jobs.h"

namespace easel {

namespace {

namespace fs = std::filesystem;

constexpr std::uintmax_t kLargestFile = 64 << 20;
constexpr int kDeepestFiles = 20;
constexpr int kMostPieces = 100'000;  // files that hold files can ask for more than there are atoms
constexpr std::size_t kLongestPrompt = 1 << 20;

std::string content_of(const fs::path& file, const std::string& name) {
  std::error_code error;
  const auto size = fs::file_size(file, error);
  if (error) throw Error(ErrorKind::kFile, "__" + name + "__: there is no file " + file.string());
  if (size > kLargestFile) throw Error(ErrorKind::kFile, file.string() + ": larger than 64 MiB, so it is no list");
  std::ifstream in(file, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(in), {}};
  if (!in) throw Error(ErrorKind::kFile, file.string() + ": cannot be read");
  if (const auto at = invalid_utf8_at(text))
    throw Error(ErrorKind::kFile, file.string() + ": not valid UTF-8 at byte " + std::to_string(*at));
  if (text.find('\0') != std::string::npos) throw Error(ErrorKind::kFile, file.string() + ": it holds a NUL byte");
  return text;
}

std::vector<std::string> choices_in(std::string_view text) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  std::vector<std::string> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const std::size_t first = line.find_first_not_of(" \t\r"), last = line.find_last_not_of(" \t\r");
    if (first == std::string_view::npos) continue;
    line = line.substr(first, last - first + 1);
    if (line != "#" && !line.starts_with("# ")) lines.emplace_back(line);
  }
  return lines;
}

// Steele, Lea and Flood 2014 (SplitMix): every seed, neighbours too, gives a sequence of its own.
class Choices {
 public:
  explicit Choices(uint64_t seed) : state_(seed) {}
  std::size_t below(std::size_t count) {
    state_ += 0x9E3779B97F4A7C15;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    z ^= z >> 31;
    return static_cast<std::size_t>((z >> 32) * count >> 32);  // count < 2^32
  }

 private:
  uint64_t state_;
};

struct Expansion {
  const WildcardSource& source;
  Choices choices;
  std::string text = {}, fault = {};
  int pieces = 0;

  void add(const WildcardText& parts, int depth) {
    for (const WildcardPiece& part : parts) {
      if (++pieces > kMostPieces || text.size() + part.text.size() > kLongestPrompt)
        fault = "its wildcards give more than 1 MiB";
      if (!fault.empty()) return;
      if (part.kind == WildcardPiece::Kind::kText) text += part.text;
      if (part.kind == WildcardPiece::Kind::kChoice) add(part.choices[choices.below(part.choices.size())], depth);
      if (part.kind == WildcardPiece::Kind::kFile) add_file(part.text, depth);
    }
  }

  void add_file(const std::string& name, int depth) {
    if (depth == kDeepestFiles) {
      fault =
          "__" + name + "__: files of wildcards name each other more than " + std::to_string(kDeepestFiles) + " deep";
      return;
    }
    const std::vector<std::string>& lines = source.lines(name);
    const WildcardText chosen = parse_wildcards(lines[choices.below(lines.size())], fault);
    if (!fault.empty()) fault = "__" + name + "__: " + fault;
    add(chosen, depth + 1);
  }
};

// Walks all choices of all files, each file once.
struct Check {
  const WildcardSource& source;
  Faults& faults;
  std::vector<std::string> way = {};  // of files, from the prompt to here
  std::set<std::string> done = {};

  void text(std::string_view prompt) {
    std::string fault;
    const WildcardText parts = parse_wildcards(prompt, fault);
    if (!fault.empty()) return faults.add((way.empty() ? "" : "__" + way.back() + "__: ") + fault);
    pieces(parts);
  }

  void pieces(const WildcardText& parts) {
    for (const WildcardPiece& part : parts) {
      for (const WildcardText& choice : part.choices) pieces(choice);
      if (part.kind == WildcardPiece::Kind::kFile) file(part.text);
    }
  }

  void file(const std::string& name) {
    if (std::find(way.begin(), way.end(), name) != way.end()) return fail_as_circle(name);
    if (done.contains(name)) return;
    if (way.size() == kDeepestFiles)
      return faults.add("__" + name + "__: files of wildcards name each other more than " +
                        std::to_string(kDeepestFiles) + " deep");
    way.push_back(name);
    try {
      for (const std::string& line : source.lines(name)) text(line);
    } catch (const Error& error) {
      faults.add(error.what());
    }
    way.pop_back();
    done.insert(name);
  }

  void fail_as_circle(const std::string& name) {
    std::string chain;
    for (const std::string& step : way) chain += step + " -> ";
    faults.add("__" + name + "__ is within itself: " + chain + name);
  }
};

}  // namespace

const std::vector<std::string>& WildcardSource::lines(const std::string& name) const {
  const auto known = files_.find(name);
  if (known != files_.end()) return known->second;
  if (!folder_) throw Error(ErrorKind::kFile, "__" + name + "__: no folder of wildcards is given; \\__ is literal");
  for (const fs::path& part : fs::path(name)) {
    if (part == ".." || part == "/") throw Error(ErrorKind::kFile, "__" + name + "__ is no name below the folder");
  }
  std::vector<std::string> lines = choices_in(content_of(*folder_ / (name + ".txt"), name));
  if (lines.empty())
    throw Error(ErrorKind::kFile,
                "__" + name + "__: " + (*folder_ / (name + ".txt")).string() + " has no choice in it");
  return files_.emplace(name, std::move(lines)).first->second;
}

bool has_wildcards(std::string_view prompt) {
  return prompt.find_first_of("{}") != std::string_view::npos || prompt.find("__") != std::string_view::npos ||
         prompt.find("\\|") != std::string_view::npos;
}

std::optional<std::string> expand(std::string_view prompt, const WildcardSource& source, uint64_t seed,
                                  Faults& faults) {
  if (!has_wildcards(prompt)) return std::string(prompt);
  Expansion expansion{source, Choices(seed)};
  try {
    const WildcardText parts = parse_wildcards(prompt, expansion.fault);
    expansion.add(parts, 0);
  } catch (const Error& error) {
    expansion.fault = error.what();
  }
  if (expansion.fault.empty()) return std::move(expansion.text);
  faults.add(expansion.fault);
  return std::nullopt;
}

void check_wildcards(std::string_view prompt, const WildcardSource& source, Faults& faults) {
  if (has_wildcards(prompt)) Check{source, faults}.text(prompt);
}

}  // namespace easel
