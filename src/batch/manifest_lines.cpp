#include "batch/manifest_lines.h"

#include <algorithm>
#include <set>

#include "batch/json_line.h"

namespace easel {

namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr int kVersion = 1;
constexpr int64_t kMostShards = 1'000'000;

// Checks and takes the values of one object; every key is asked for once.
class ObjectReader {
 public:
  ObjectReader(const json& object, std::string& fault) : object_(object), fault_(fault) {}

  const json* optional(const char* key) {
    asked_.insert(key);
    const auto at = object_.find(key);
    return at == object_.end() ? nullptr : &*at;
  }
  const json& required(const char* key) {
    static const json nothing;
    const json* value = optional(key);
    if (value == nullptr) fail(std::string(key) + " is missing");
    return value == nullptr ? nothing : *value;
  }
  int64_t whole(const char* key, int64_t least) {
    const json& value = required(key);
    const bool fits = value.is_number_unsigned() && value.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX) &&
                      value.get<int64_t>() >= least;
    if (!fits) fail(std::string(key) + " " + shown(value) + ": expected a whole number from " + std::to_string(least));
    return fits ? value.get<int64_t>() : least;
  }
  uint64_t seed(const char* key) {
    const json& value = required(key);
    if (!value.is_number_unsigned()) fail(std::string(key) + " " + shown(value) + ": expected a whole number");
    return value.is_number_unsigned() ? value.get<uint64_t>() : 0;
  }
  std::string text(const char* key) {
    const json& value = required(key);
    if (!value.is_string() || value.get_ref<const std::string&>().empty())
      fail(std::string(key) + " " + shown(value) + ": expected a text");
    return value.is_string() ? value.get<std::string>() : "";
  }
  ordered_json object(const char* key) {
    const json& value = required(key);
    if (!value.is_object()) fail(std::string(key) + ": expected an object");
    return ordered_json(value);
  }
  void refuse_others() {
    for (const auto& [key, value] : object_.items()) {
      if (!asked_.contains(key)) fail("unknown key \"" + cut_short(key, 60) + "\"");
    }
  }
  void fail(const std::string& what) {
    if (fault_.empty()) fault_ = what;
  }

 private:
  const json& object_;
  std::string& fault_;
  std::set<std::string, std::less<>> asked_;
};

bool is_sha256(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

std::vector<int64_t> read_shards(const json& value, int64_t count, ObjectReader& object) {
  std::vector<int64_t> shards;
  for (const json& shard : value.is_array() ? value : json::array()) {
    const bool fits = shard.is_number_unsigned() && shard.get<uint64_t>() < static_cast<uint64_t>(count) &&
                      (shards.empty() || shard.get<int64_t>() > shards.back());
    if (!fits) object.fail("shards: " + shown(shard) + ": expected rising numbers below shard_count");
    if (fits) shards.push_back(shard.get<int64_t>());
  }
  if (shards.empty()) object.fail("shards: expected a list of numbers");
  return shards;
}

std::string relative_to(const fs::path& path, const fs::path& folder) {
  const fs::path from = fs::absolute(folder.empty() ? "." : folder).lexically_normal();
  const fs::path to = fs::absolute(path).lexically_normal();
  const fs::path relative = to.lexically_relative(from);
  return relative.empty() ? to.string() : relative.string();
}

}  // namespace

std::string line_of(const ManifestHeader& header) {
  ordered_json out;
  out["easel_manifest"] = kVersion;
  out["base_seed"] = header.base_seed;
  out["batch_size"] = header.batch_size;
  out["shard_count"] = header.shard_count;
  out["shards"] = header.shards;
  out["command"] = header.command;
  return out.dump() + "\n";
}

std::string line_of(const ManifestRecord& record, const fs::path& folder) {
  ordered_json out;
  out["index"] = record.index;
  out["job"] = record.job;
  if (!record.id.is_null()) out["id"] = record.id;
  out["status"] = record.is_done() ? "done" : "failed";
  if (record.is_done()) {
    out["path"] = relative_to(record.path, folder);
    out["sha256"] = record.sha256;
  } else {
    out["error"] = record.error;
  }
  out["seconds"] = record.seconds;
  out["request"] = record.request;
  // A path need not be UTF-8; such a one is written with its bytes replaced, and its picture drawn again on resume.
  return out.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

std::optional<ManifestHeader> read_manifest_header(std::string_view line, std::string& fault) {
  const auto value = json_object(line, fault);
  if (!value) return std::nullopt;
  ObjectReader object(*value, fault);
  const json* version = object.optional("easel_manifest");
  if (version == nullptr) {
    object.fail("its first line is no manifest's");
  } else if (*version != kVersion) {
    object.fail("a manifest of version " + shown(*version) + "; this program reads version " +
                std::to_string(kVersion));
  }
  ManifestHeader header;
  header.base_seed = object.seed("base_seed");
  header.batch_size = object.whole("batch_size", 1);
  header.shard_count = object.whole("shard_count", 1);
  if (header.shard_count > kMostShards) object.fail("shard_count: expected at most " + std::to_string(kMostShards));
  header.shards = read_shards(object.required("shards"), header.shard_count, object);
  const json& command = object.required("command");
  if (!command.is_string()) object.fail("command: expected a text");
  if (command.is_string()) header.command = command.get<std::string>();
  object.refuse_others();
  return fault.empty() ? std::optional(header) : std::nullopt;
}

std::optional<ManifestRecord> read_manifest_record(std::string_view line, const fs::path& folder, std::string& fault) {
  const auto value = json_object(line, fault);
  if (!value) return std::nullopt;
  ObjectReader object(*value, fault);
  ManifestRecord record;
  record.index = object.whole("index", 0);
  record.job = object.whole("job", 0);
  if (const json* id = object.optional("id")) record.id = *id;
  if (!record.id.is_null() && !record.id.is_string() && !record.id.is_number_integer())
    object.fail("id " + shown(record.id) + ": expected a text or a whole number");
  const std::string status = object.text("status");
  if (status == "done") {
    record.path = fs::path(object.text("path"));
    if (record.path.is_relative()) record.path = folder / record.path;
    record.sha256 = object.text("sha256");
    if (!is_sha256(record.sha256)) object.fail("sha256 " + shown(json(record.sha256)) + ": expected 64 hex digits");
  } else if (status == "failed") {
    record.error = object.text("error");
  } else {
    object.fail("status " + shown(json(status)) + ": expected done or failed");
  }
  record.seconds = object.object("seconds");
  record.request = object.object("request");
  object.refuse_others();
  return fault.empty() ? std::optional(std::move(record)) : std::nullopt;
}

std::vector<std::string> header_differences(const ManifestHeader& a, const std::string& name_a, const ManifestHeader& b,
                                            const std::string& name_b) {
  std::vector<std::string> out;
  const auto compare = [&](const char* field, const std::string& value_a, const std::string& value_b) {
    if (value_a != value_b)
      out.push_back(std::string(field) + " is " + value_a + " in " + name_a + " and " + value_b + " in " + name_b);
  };
  compare("base_seed", std::to_string(a.base_seed), std::to_string(b.base_seed));
  compare("batch_size", std::to_string(a.batch_size), std::to_string(b.batch_size));
  compare("shard_count", std::to_string(a.shard_count), std::to_string(b.shard_count));
  if (a.command != b.command)
    out.push_back(name_a + " and " + name_b + " are of different commands: other flags, sweeps or models");
  return out;
}

}  // namespace easel
