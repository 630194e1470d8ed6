#include "batch/job_names.h"

#include <algorithm>
#include <array>
#include <unordered_map>

namespace easel {

namespace {

struct Spelling {
  const char* name;
  const char* meaning;  // a request field, or batch_count
};
// kohya's gen_img (its --t is the strength, not a count) and A1111's "prompts from file".
constexpr std::array kLineSpellings = {
    Spelling{"n", "negative_prompt"}, Spelling{"w", "width"},     Spelling{"h", "height"},   Spelling{"d", "seed"},
    Spelling{"s", "steps"},           Spelling{"l", "cfg_scale"}, Spelling{"t", "strength"}, Spelling{"ss", "sampler"}};
constexpr std::array kSpellings = {Spelling{"cfg", "cfg_scale"}, Spelling{"sd_model", "model"},
                                   Spelling{"sampler_name", "sampler"}, Spelling{"n_iter", "batch_count"}};

std::string with_underscores(std::string_view name) {
  std::string text(name);
  std::replace(text.begin(), text.end(), '-', '_');
  return text;
}

// The long ones of CLI11's notation "-W,--width".
std::vector<std::string> long_flags(const std::string& flags) {
  std::vector<std::string> names;
  for (std::size_t at = 0; (at = flags.find("--", at)) != std::string::npos;) {
    const std::size_t end = std::min(flags.find(',', at), flags.size());
    names.push_back(with_underscores(std::string_view(flags).substr(at + 2, end - at - 2)));
    at = end;
  }
  return names;
}

struct Names {
  std::unordered_map<std::string, JobName> meanings;
  std::vector<std::string> list;  // in the table's order, for suggestions

  void add(const std::string& name, JobName meaning) {
    if (meanings.emplace(name, meaning).second && name.size() > 2) list.push_back(name);
  }
  std::optional<JobName> find(const std::string& name) const {
    const auto at = meanings.find(name);
    return at == meanings.end() ? std::nullopt : std::optional(at->second);
  }
  template <std::size_t N>
  void add_spellings(const std::array<Spelling, N>& spellings) {
    for (const Spelling& spelling : spellings) {
      const auto meaning = find(spelling.meaning);
      if (meaning) add(spelling.name, *meaning);
    }
  }
};

Names all_names(bool of_lines) {
  Names names;
  for (const RequestField& field : request_fields()) names.add(field.name, {JobKey::kField, &field});
  names.add("batch_count", {JobKey::kBatchCount, nullptr});
  names.add("wildcards", {JobKey::kWildcards, nullptr});
  names.add("output", {JobKey::kOutput, nullptr});
  if (!of_lines) {
    names.add("id", {JobKey::kId, nullptr});
    names.add("cancel", {JobKey::kCancel, nullptr});
  }
  for (const RequestField& field : request_fields()) {
    for (const std::string& alias : field.aliases) names.add(alias, {JobKey::kField, &field});
    for (const std::string& flag : long_flags(field.flags)) names.add(flag, {JobKey::kField, &field});
  }
  names.add_spellings(kSpellings);
  if (of_lines) names.add_spellings(kLineSpellings);
  return names;
}

const Names& flag_names() {
  static const Names names = all_names(/*of_lines=*/true);
  return names;
}

const Names& key_names() {
  static const Names names = all_names(/*of_lines=*/false);
  return names;
}

// A million lines with one wrong name ask once.
std::vector<std::string> suggestions(const Names& names, std::string_view name) {
  thread_local const Names* last_names = nullptr;
  thread_local std::string last_name;
  thread_local std::vector<std::string> last;
  if (last_names != &names || last_name != name) {
    last = nearest_names(name, names.list);
    last_names = &names;
    last_name = name;
  }
  return last;
}

}  // namespace

std::optional<JobName> find_job_flag(std::string_view name) { return flag_names().find(with_underscores(name)); }

std::optional<JobName> find_job_key(std::string_view name) { return key_names().find(std::string(name)); }

std::string hint_for_flag(std::string_view name) {
  const std::size_t equals = name.find('=');
  if (equals != std::string_view::npos && find_job_flag(name.substr(0, equals)))
    return "; its value stands after a blank, not after '='";
  std::vector<std::string> flags = suggestions(flag_names(), with_underscores(name));
  for (std::string& flag : flags) {
    std::replace(flag.begin(), flag.end(), '_', '-');
    flag.insert(0, "--");
  }
  return "; did you mean " + listed(flags) + "? Put the text in double quotes if it is no flag";
}

std::string hint_for_key(std::string_view name) {
  return "; did you mean " + listed(suggestions(key_names(), name)) + "?";
}

}  // namespace easel
