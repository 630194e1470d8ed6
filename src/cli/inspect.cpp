// easel inspect: what a file or folder is, or with which settings a picture was drawn.
#include <fstream>

#include "cli/arguments.h"
#include "cli/model_files.h"
#include "cli/results.h"
#include "cli/table.h"
#include "easel/image.h"
#include "easel/runtime.h"

namespace easel::cli {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// ---- pictures
// --------------------------------------------------------------------------------------------------------

bool is_png(const fs::path& path) {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return false;
  char begin[8] = {};
  std::ifstream(path, std::ios::binary).read(begin, sizeof begin);
  return std::string_view(begin, sizeof begin) == "\x89PNG\r\n\x1a\n";
}

Json picture_facts(const fs::path& path) {
  const Image image = read_png(path);
  Json facts = {{"path", path.string()}, {"kind", "picture"}, {"width", image.width}, {"height", image.height}};
  for (const PngText& entry : read_png_texts(path)) {
    if (entry.keyword == "parameters") facts["parameters"] = entry.text;
    if (entry.keyword != "easel") continue;
    Json settings = Json::parse(entry.text, nullptr, /*allow_exceptions=*/false);
    if (!settings.is_object()) throw Error(ErrorKind::kFile, path.string() + ": its text chunk \"easel\" is not JSON");
    facts["easel"] = std::move(settings);
  }
  return facts;
}

std::string plain_value(const Json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

std::string picture_text(const Json& facts) {
  std::string text = facts["path"].get<std::string>() + ": a picture of " + facts["width"].dump() + "x" +
                     facts["height"].dump() + "\n";
  if (facts.contains("easel")) {
    Table rows;
    for (const auto& [name, value] : facts["easel"].items()) rows.push_back({"  " + name, plain_value(value)});
    return text + aligned(rows);
  }
  if (facts.contains("parameters")) return text + facts["parameters"].get<std::string>() + "\n";
  return text + "  it carries no settings\n";
}

// ---- models
// ----------------------------------------------------------------------------------------------------------

const char* kind_name(FileKind kind, bool folder) {
  switch (kind) {
    case FileKind::kCheckpoint:
      return folder ? "folder" : "checkpoint";
    case FileKind::kUNet:
      return "unet";
    case FileKind::kVae:
      return "vae";
    case FileKind::kTextEncoder:
      return "text_encoder";
    case FileKind::kLora:
      return "lora";
    case FileKind::kTextualInversion:
      return "textual_inversion";
    case FileKind::kControlNet:
      return "controlnet";
    case FileKind::kOther:
      break;
  }
  return "other";
}

const char* naming_name(Naming naming) {
  switch (naming) {
    case Naming::kLdm:
      return "ldm";
    case Naming::kOpenClip:
      return "openclip";
    case Naming::kTaesd:
      return "taesd";
    case Naming::kDiffusers:
      break;
  }
  return "diffusers";
}

struct Size {
  int64_t tensors = 0, parameters = 0, bytes = 0;
  std::map<std::string, int64_t> dtypes;  // "f16" → how many tensors
};

Size size_of(const WeightSource& source) {
  Size size;
  for (const std::string& name : source.names()) {
    const TensorInfo info = source.info(name).value();
    const int64_t values = c10::multiply_integers(info.shape);
    size.tensors += 1, size.parameters += values;
    size.bytes += values * static_cast<int64_t>(c10::elementSize(info.dtype));
    ++size.dtypes[dtype_name(info.dtype)];
  }
  return size;
}

void add_size(Json& facts, const Size& size) {
  facts["tensors"] = size.tensors, facts["parameters"] = size.parameters, facts["bytes"] = size.bytes;
  facts["dtypes"] = size.dtypes;
}

Json part_facts(const ModelPart& part) {
  Json facts = {{"name", part.name}, {"naming", naming_name(part.stored.naming)}, {"prefix", part.stored.prefix}};
  if (part.tensors) add_size(facts, size_of(*part.tensors));
  const PartCheck check = check_part(part);
  if (!check.unsupported.empty()) facts["not_checked"] = check.unsupported;
  facts["missing"] = check.missing, facts["misfit"] = check.misfit, facts["unexpected"] = check.unexpected;
  return facts;
}

// Pixels a side, as trained.
void add_native_size(Json& facts, const ModelFiles& model) {
  const ModelPart *unet = model.part("unet"), *vae = model.part("vae");
  if (!unet || !vae) return;
  try {
    const UNetSpec spec = UNetSpec::from_json(unet->config, "");
    const int64_t factor = VaeSpec::from_json(vae->config, "").factor();
    facts["width"] = spec.sample_width * factor, facts["height"] = spec.sample_height * factor;
  } catch (const Error&) {  // part_facts() says why
  }
}

void add_prediction(Json& facts, const FileIdentity& id) {
  if (id.prediction.empty()) return;
  facts["in_channels"] = id.in_channels;
  facts["prediction"] = id.prediction, facts["prediction_reason"] = id.prediction_reason;
  facts["prediction_assumed"] = id.prediction_assumed, facts["zero_snr"] = id.zero_snr;
}

Json model_facts(const fs::path& path) {
  const ModelFiles model = open_model_files(path);
  const FileIdentity& id = model.identity;
  Json facts = {{"path", path.string()}, {"kind", kind_name(id.kind, model.is_folder())}, {"title", id.title}};
  if (!id.family.empty()) facts["family"] = id.family;
  add_native_size(facts, model);
  add_prediction(facts, id);
  if (!model.is_folder()) add_size(facts, size_of(*model.file));
  facts["parts"] = Json::array();
  for (const ModelPart& part : model.parts) facts["parts"].push_back(part_facts(part));
  const Leftovers left = leftovers(model);
  if (!model.parts.empty()) facts["unread"] = left.known, facts["unexpected"] = left.unexpected;
  if (model.configs.contains("easel")) facts["defaults"] = model.configs.at("easel");
  if (!model.is_folder()) {
    Metadata metadata = model.file->metadata();
    metadata.erase(kConfigsKey);  // as long as all the rest; it is what `parts` was checked with
    facts["metadata"] = metadata;
  }
  return facts;
}

// ---- as text
// ---------------------------------------------------------------------------------------------------------

// "859,520,964"
std::string grouped(int64_t number) {
  std::string digits = std::to_string(number);
  for (auto at = static_cast<int64_t>(digits.size()) - 3; at > 0; at -= 3)
    digits.insert(static_cast<std::size_t>(at), ",");
  return digits;
}

std::string megabytes(int64_t bytes) { return grouped((bytes + 500'000) / 1'000'000) + " MB"; }

std::string dtypes_text(const Json& dtypes) {
  std::vector<std::string> words;
  for (const auto& [name, count] : dtypes.items())
    words.push_back(dtypes.size() == 1 ? name : name + ": " + count.dump());
  return listed(words);
}

// The first 20 lines of a kind.
std::string fault_lines(const Json& facts, const char* kind, const std::string& begin) {
  constexpr std::size_t kShown = 20;
  std::string text;
  const Json lines = facts.value(kind, Json::array());
  for (std::size_t i = 0; i < lines.size() && i < kShown; ++i)
    text += "  " + begin + lines[i].get<std::string>() + "\n";
  if (lines.size() > kShown) text += "  and " + std::to_string(lines.size() - kShown) + " more (--json lists all)\n";
  return text;
}

Table summary_rows(const Json& facts) {
  Table rows = {{"  kind", facts["kind"].get<std::string>()}};
  const auto add = [&](const char* title, const std::string& value) {
    rows.push_back({std::string("  ") + title, value});
  };
  if (facts.contains("family")) add("family", facts["family"].get<std::string>());
  if (facts.contains("width")) add("size", facts["width"].dump() + "x" + facts["height"].dump());
  if (facts.contains("prediction"))
    add("prediction", facts["prediction"].get<std::string>() + " (" + facts["prediction_reason"].get<std::string>() +
                          ")" + (facts["zero_snr"].get<bool>() ? ", zero terminal SNR" : ""));
  if (facts.contains("dtypes"))
    add("tensors", grouped(facts["tensors"].get<int64_t>()) + " (" + dtypes_text(facts["dtypes"]) + "), " +
                       megabytes(facts["bytes"].get<int64_t>()));
  if (facts.contains("defaults")) add("defaults", facts["defaults"].dump());
  if (const Json unread = facts.value("unread", Json::array()); !unread.empty())
    add("not read",
        std::to_string(unread.size()) + " tensors, " + unread[0].get<std::string>() + (unread.size() > 1 ? ", …" : ""));
  const Json metadata = facts.value("metadata", Json::object());
  for (const auto& [name, value] : metadata.items()) {
    const std::string shown_value = value.get<std::string>();
    if (name != "format") add(name.c_str(), shown_value.size() > 100 ? shown_value.substr(0, 97) + "..." : shown_value);
  }
  return rows;
}

std::string model_text(const Json& facts) {
  std::string text = facts["path"].get<std::string>() + ": " + facts["title"].get<std::string>() + "\n";
  text += aligned(summary_rows(facts));
  Table rows = {{"  PART", "NAMES", "TENSORS", "PARAMETERS", "DTYPE", "SIZE"}};
  std::string faults;
  for (const Json& part : facts["parts"]) {
    const auto name = part["name"].get<std::string>();
    if (part.contains("tensors"))
      rows.push_back({"  " + name, part["naming"].get<std::string>(), grouped(part["tensors"].get<int64_t>()),
                      grouped(part["parameters"].get<int64_t>()), dtypes_text(part["dtypes"]),
                      megabytes(part["bytes"].get<int64_t>())});
    if (part.contains("not_checked"))
      faults += "  " + name + ": not checked: " + part["not_checked"].get<std::string>() + "\n";
    faults += fault_lines(part, "missing", name + ": ") + fault_lines(part, "misfit", name + ": ") +
              fault_lines(part, "unexpected", name + ": unexpected tensor ");
  }
  if (rows.size() > 1) text += aligned(rows);
  return text + faults + fault_lines(facts, "unexpected", "unexpected tensor ");
}

}  // namespace

int inspect(const Arguments& arguments) {
  CLI::App app("What a model file or folder is, and whether it is whole; or a picture's settings.",
               "easel inspect FILE|DIR|PNG …");
  CLI::Option* paths = add_text(app, "--path", "PATH", "", "");  // hidden: what bare arguments stand for
  const CLI::Option* json = add_switch(app, "--json", "one JSON object a line", "Options");
  Faults faults;
  if (!parse(app, arguments, "--path", faults)) return 0;
  if (paths->count() == 0) faults.add("nothing to inspect: easel inspect FILE|DIR|PNG");
  faults.raise_if_any(ErrorKind::kUsage, "see 'easel inspect --help'");
  for (const std::string& path : paths->results()) {
    const bool picture = is_png(path);
    const fs::path place = picture ? fs::path(path) : find_model(path);
    const Json facts = picture ? picture_facts(place) : model_facts(place);
    print_text(json->count() > 0 ? facts.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"
               : picture         ? picture_text(facts)
                                 : model_text(facts));
  }
  return 0;
}

}  // namespace easel::cli
