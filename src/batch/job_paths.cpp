#include "batch/job_paths.h"

namespace easel {

namespace {

namespace fs = std::filesystem;

bool names_bundled_model(const std::string& name) { return find_model(name) != fs::path(name); }

std::string led_from(const std::string& path, const fs::path& folder) {
  std::error_code error;
  if (path.empty() || fs::path(path).is_absolute()) return path;
  const fs::path led = folder / path;
  return names_bundled_model(path) && !fs::exists(led, error) ? path : led.string();
}

}  // namespace

void lead_paths_from(Request& request, const fs::path& folder) {
  if (folder.empty()) return;
  for (const RequestField& field : request_fields()) {
    const auto* member = std::get_if<std::optional<std::string> Request::*>(&field.member);
    if (!field.is_path || member == nullptr) continue;
    std::optional<std::string>& value = request.*(*member);
    if (value) value = led_from(*value, folder);
  }
}

}  // namespace easel
