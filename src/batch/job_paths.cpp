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
    if (!field.is_path) continue;
    if (const auto* member = std::get_if<std::optional<std::string> Request::*>(&field.member)) {
      std::optional<std::string>& value = request.**member;
      if (value) value = led_from(*value, folder);
    } else if (const auto* list = std::get_if<std::optional<std::vector<std::string>> Request::*>(&field.member)) {
      if (!(request.**list)) continue;
      for (std::string& value : *(request.**list)) value = led_from(value, folder);
    }
  }
}

}  // namespace easel
