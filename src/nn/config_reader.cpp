#include <algorithm>

#include "easel/nn.h"

namespace easel {

namespace {

// Bounds every size a file can ask for, so that products of a few of them stay far from overflow.
constexpr int64_t kLargest = int64_t{1} << 20;

bool is_size(const json& value, int64_t low) {
  return value.is_number_integer() && value.get<double>() >= static_cast<double>(low) &&
         value.get<double>() <= kLargest;
}

}  // namespace

ConfigReader::ConfigReader(const json& config, std::string where) : config_(config), where_(std::move(where)) {
  if (!config.is_object()) throw Error(ErrorKind::kFile, where_ + ": expected a JSON object of network settings");
}

const json* ConfigReader::find(const char* name) {
  seen_.insert(name);
  const auto found = config_.find(name);
  return found == config_.end() || found->is_null() ? nullptr : &*found;
}

bool ConfigReader::given(const char* name) { return find(name) != nullptr; }

void ConfigReader::fault(const char* name, const std::string& expected) {
  const auto found = config_.find(name);
  faults_.push_back(where_ + ": " + name + (found == config_.end() ? " is missing" : " is " + shown(*found)) + ": " +
                    expected);
}

int64_t ConfigReader::integer(const char* name, std::optional<int64_t> fallback, int64_t low) {
  const json* value = find(name);
  if (value == nullptr && fallback) return *fallback;
  if (value != nullptr && is_size(*value, low)) return value->get<int64_t>();
  fault(name, "expected a whole number from " + std::to_string(low) + " to " + std::to_string(kLargest));
  return std::max<int64_t>(low, 1);
}

double ConfigReader::number(const char* name, std::optional<double> fallback) {
  const json* value = find(name);
  if (value == nullptr && fallback) return *fallback;
  if (value != nullptr && value->is_number()) return value->get<double>();
  fault(name, "expected a number");
  return 1.0;
}

bool ConfigReader::flag(const char* name, bool fallback) {
  const json* value = find(name);
  if (value == nullptr) return fallback;
  if (value->is_boolean()) return value->get<bool>();
  fault(name, "expected true or false");
  return fallback;
}

std::string ConfigReader::word(const char* name, const std::string& fallback,
                               const std::vector<std::string>& supported) {
  const json* value = find(name);
  if (value == nullptr) return fallback;
  if (value->is_string() && std::find(supported.begin(), supported.end(), *value) != supported.end())
    return value->get<std::string>();
  fault(name, "supported: " + listed(supported));
  return fallback;
}

std::vector<std::string> ConfigReader::words(const char* name, const std::vector<std::string>& supported) {
  const json* value = find(name);
  const auto known = [&](const json& v) {
    return v.is_string() && std::find(supported.begin(), supported.end(), v) != supported.end();
  };
  if (value != nullptr && value->is_array() && !value->empty() && value->size() <= 16 &&
      std::all_of(value->begin(), value->end(), known))
    return value->get<std::vector<std::string>>();
  fault(name, "expected a list of these: " + listed(supported));
  return {};
}

std::vector<int64_t> ConfigReader::integers(const char* name, std::size_t count, std::optional<int64_t> fallback) {
  const json* value = find(name);
  if (value == nullptr && fallback) return std::vector<int64_t>(count, *fallback);
  const auto size = [](const json& v) { return is_size(v, 1); };
  if (value != nullptr && size(*value)) return std::vector<int64_t>(count, value->get<int64_t>());
  if (value != nullptr && value->is_array() && value->size() == count &&
      std::all_of(value->begin(), value->end(), size))
    return value->get<std::vector<int64_t>>();
  fault(name, "expected a whole number, or a list of " + std::to_string(count));
  return std::vector<int64_t>(count, 1);
}

std::vector<int64_t> ConfigReader::list(const char* name) {
  const json* value = find(name);
  const auto size = [](const json& v) { return is_size(v, 1); };
  if (value != nullptr && value->is_array() && !value->empty() && value->size() <= 16 &&
      std::all_of(value->begin(), value->end(), size))
    return value->get<std::vector<int64_t>>();
  fault(name, "expected a list of whole numbers");
  return {1};
}

std::vector<std::vector<int64_t>> ConfigReader::integer_lists(const char* name, const std::vector<std::size_t>& counts,
                                                              std::optional<int64_t> fallback) {
  const json* value = find(name);
  const auto size = [](const json& v) { return is_size(v, 0); };
  std::vector<std::vector<int64_t>> lists;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const bool per_entry = value != nullptr && value->is_array() && value->size() == counts.size();
    const json entry = per_entry ? (*value)[i] : value != nullptr ? *value : fallback ? json(*fallback) : json();
    if (counts[i] == 0 && (per_entry || size(entry))) {
      lists.emplace_back();
    } else if (size(entry)) {
      lists.emplace_back(counts[i], entry.get<int64_t>());
    } else if (per_entry && entry.is_array() && entry.size() == counts[i] &&
               std::all_of(entry.begin(), entry.end(), size)) {
      lists.push_back(entry.get<std::vector<int64_t>>());
    } else {
      fault(name, "expected a whole number, or " + std::to_string(counts.size()) + " entries; entry " +
                      std::to_string(i) + " a whole number or a list of " + std::to_string(counts[i]));
      return std::vector<std::vector<int64_t>>(counts.size());
    }
  }
  return lists;
}

bool ConfigReader::given_as_null(const char* name) { return config_.contains(name) && find(name) == nullptr; }

void ConfigReader::only(const char* name, const json& off) {
  const json* value = find(name);
  if (value != nullptr && *value != off) fault(name, "only " + off.dump() + " is supported");
}

void ConfigReader::ignore(std::initializer_list<const char*> names) { seen_.insert(names.begin(), names.end()); }

void ConfigReader::finish() const {
  if (!faults_.empty()) throw Error(ErrorKind::kFile, faults_);
  for (const auto& [name, value] : config_.items()) {
    if (!name.starts_with("_") && !value.is_null() && !seen_.contains(name))
      log::warn(where_ + ": unknown field " + name + " ignored");
  }
}

}  // namespace easel
