#include "cli/recorded.h"

#include <algorithm>

namespace easel::cli {

namespace fs = std::filesystem;

namespace {

constexpr int kDeepest = 8;  // json's dump() is recursive: brackets from a stranger would end the program
constexpr std::size_t kMostNames = 10;

std::string easel_text(const fs::path& file) {
  const std::vector<PngText> texts = read_png_texts(file);
  const auto has = [&](const char* keyword) {
    return std::find_if(texts.rbegin(), texts.rend(), [&](const PngText& t) { return t.keyword == keyword; });
  };
  if (const auto text = has("easel"); text != texts.rend()) return text->text;
  const bool foreign = has("parameters") != texts.rend();
  throw Error(ErrorKind::kFile,
              file.string() + ": it has no text 'easel', so it was not drawn by easel or with --disable-image-metadata",
              foreign ? "its text 'parameters', of another program, does not say all that the picture depends on" : "");
}

// Null for what is no JSON object, is nested too deeply or has a text with NUL, which no PNG can hold again.
json object_of(const std::string& text) {
  bool good = true;
  const auto look = [&](int depth, json::parse_event_t event, json& value) {
    const bool begins = event == json::parse_event_t::object_start || event == json::parse_event_t::array_start;
    if (begins && depth >= kDeepest) good = false;
    if (event == json::parse_event_t::value && value.is_string() &&
        value.get_ref<const std::string&>().find('\0') != std::string::npos)
      good = false;
    return !begins || depth < kDeepest;
  };
  json object = json::parse(text, look, /*allow_exceptions=*/false);
  return good && object.is_object() ? object : json();
}

class Reader {
 public:
  explicit Reader(const fs::path& file) : place_(file.string() + ": its recorded ") { recorded_.file = file; }

  Recorded read(const json& object) {
    for (const auto& [name, value] : object.items()) entry(name, value);
    for (const char* name : {"prompt", "seed", "model", "device", "dtype"}) {
      const bool was_there = object.contains(name) && !object.at(name).is_null();
      if (!was_there) faults_.add(recorded_.file.string() + ": its text 'easel' has no " + name);
    }
    if (!recorded_.request.prompt_syntax) recorded_.request.prompt_syntax = "raw";
    faults_.raise_if_any(ErrorKind::kFile, "the text was damaged or changed after the picture was drawn");
    if (unknown_ > 0) warn_of_unknown();
    return std::move(recorded_);
  }

 private:
  void entry(const std::string& name, const json& value) {
    const RequestField* field = find_request_field(name);
    if (field != nullptr) {
      set_from_json(recorded_.request, *field, value, place_ + name, faults_);
      if (name == "device") check_device(value);
      if (field->is_path && value == "") faults_.add(place_ + name + " is empty");
    } else if (name == "model_hash") {
      text(name, value, recorded_.hashes.model);
    } else if (name == "vae_hash") {
      text(name, value, recorded_.hashes.vae);
    } else if (name == "refiner_hash") {
      text(name, value, recorded_.hashes.refiner);
    } else if (name == "lora_hashes" && value.is_object()) {
      for (const auto& [lora, hash] : value.items())
        text("hash of the LoRA " + lora.substr(0, 60), hash, recorded_.hashes.loras[lora]);
    } else if (name == "control_hashes" && value.is_object()) {
      for (const auto& [control, hash] : value.items())
        text("hash of the ControlNet " + control.substr(0, 60), hash, recorded_.hashes.controls[control]);
    } else if (name == "versions" && value.is_object()) {
      for (const auto& [program, version] : value.items())
        text("version of " + program.substr(0, 60), version, recorded_.versions[program]);
    } else if (name == "versions" || name == "lora_hashes" || name == "control_hashes") {
      faults_.add(place_ + name + " " + shown(value) + ": expected an object");
    } else if (++unknown_ <= kMostNames) {
      names_.push_back(name.substr(0, 60));
    }
  }

  // As Precision::device_name() writes it.
  void check_device(const json& value) {
    if (!value.is_string()) return;
    const auto& word = value.get_ref<const std::string&>();
    const bool is_cuda = word.starts_with("cuda:") && word.size() > 5 && word.size() < 9 &&
                         word.find_first_not_of("0123456789", 5) == std::string::npos;
    if (word != "cpu" && word != "cuda" && !is_cuda)
      faults_.add(place_ + "device " + shown(value) + ": expected cpu or cuda:N");
  }

  void text(const std::string& name, const json& value, std::string& into) {
    if (value.is_string()) {
      into = value;
    } else {
      faults_.add(place_ + name + " " + shown(value) + ": expected a text");
    }
  }

  void warn_of_unknown() const {
    const auto by = recorded_.versions.find("easel");
    log::warn(recorded_.file.string() + ": easel " + (by == recorded_.versions.end() ? "?" : by->second) +
              " recorded settings that this one (" EASEL_VERSION ") does not know; they are left out: " +
              listed(names_) + (unknown_ > kMostNames ? ", ..." : ""));
  }

  const std::string place_;
  Recorded recorded_;
  Faults faults_;
  std::size_t unknown_ = 0;
  std::vector<std::string> names_;
};

}  // namespace

Recorded read_recorded(const fs::path& file) {
  const json object = object_of(easel_text(file));
  if (object.is_null())
    throw Error(ErrorKind::kFile, file.string() + ": its text 'easel' is no JSON object that easel writes");
  return Reader(file).read(object);
}

bool is_set(const Request& request, const RequestField& field) {
  return std::visit([&](auto member) { return (request.*member).has_value(); }, field.member);
}

void unset(Request& request, const RequestField& field) {
  std::visit([&](auto member) { (request.*member).reset(); }, field.member);
}

}  // namespace easel::cli
