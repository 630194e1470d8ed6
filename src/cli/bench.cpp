// easel bench: how long each stage of a picture takes, and how much memory.
#include <ATen/Parallel.h>
#include <torch/headeronly/version.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <numeric>
#include <sstream>

#include "cli/arguments.h"
#include "cli/generate_help.h"
#include "cli/models_in_use.h"
#include "cli/request_options.h"
#include "cli/results.h"
#include "cli/run_options.h"
#include "cli/table.h"

namespace easel::cli {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kPrompt = "A photo of an astronaut riding a horse on mars";

struct BenchOptions {
  Request request;
  MessageOptions messages;
  int64_t pictures = 1, warm_up = 1, repeats = 3;
};

std::optional<BenchOptions> read_options(const Arguments& arguments) {
  CLI::App app("How long each stage of a picture takes, and how much memory: pictures are drawn and thrown away.",
               "easel bench");
  app.formatter(help_formatter_of("easel bench [options]"));
  const RequestOptions request = add_request_options(app);
  const CLI::Option* pictures = add_text(app, "--batch-size", "N", "pictures at once (default: 1)", kPictureGroup);
  const CLI::Option* warm_up = add_text(
      app, "--warm-up", "N", "runs that are not counted, the first of which loads (default: 1)", kPictureGroup);
  const CLI::Option* repeats = add_text(app, "--repeats", "N", "runs that are counted (default: 3)", kPictureGroup);
  const MessageFlags messages = add_message_options(app);
  Faults faults;
  if (!parse(app, arguments, "-p", faults)) return std::nullopt;
  BenchOptions out;
  read_request_options(request, {}, out.request, faults);
  out.messages = read_message_options(messages, faults);
  out.pictures = whole_number_of(*pictures, 1, 256, faults).value_or(1);
  out.warm_up = whole_number_of(*warm_up, 1, 1000, faults).value_or(1);
  out.repeats = whole_number_of(*repeats, 1, 1000, faults).value_or(3);
  if (!out.request.prompt) out.request.prompt = kPrompt;
  if (!out.request.seed) out.request.seed = 0;
  check_words(out.request, faults);
  faults.raise_if_any(ErrorKind::kUsage, "see 'easel bench --help'");
  return out;
}

// ---- the machine --------------------------------------------------------------------------------------------------

// The value of the first "KEY : VALUE" line.
std::string of_cpuinfo(const std::string& key) {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    const std::size_t colon = line.find(':');
    if (colon != std::string::npos && line.starts_with(key)) return line.substr(std::min(colon + 2, line.size()));
  }
  return "";
}

// Those that decide which kernels run.
std::vector<std::string> instruction_sets() {
  const std::set<std::string> told = {"avx2",        "avx512f",  "avx512_bf16", "avx512_vnni",
                                      "avx512_fp16", "amx_tile", "amx_bf16",    "amx_int8"};
  std::istringstream flags(of_cpuinfo("flags"));
  std::vector<std::string> sets;
  for (std::string flag; flags >> flag;) {
    if (told.contains(flag)) sets.push_back(flag);
  }
  return sets;
}

Json machine(const Request& r) {
  return {{"easel", EASEL_VERSION},
          {"libtorch", TORCH_VERSION},
          {"processor", of_cpuinfo("model name")},
          {"instruction_sets", instruction_sets()},
          {"threads", at::get_num_threads()},
          {"kernels", kernels() == Kernels::kFast ? "fast" : "plain"},
          {"device", *r.device},
          {"dtype", *r.dtype}};
}

// ---- runs ---------------------------------------------------------------------------------------------------------

// Seconds of one run.
using Stages = std::map<std::string, double>;

class Bench {
 public:
  explicit Bench(const BenchOptions& options) : options_(options), resolved_(models_.resolved(options.request)) {}

  Json run() {
    const double start = now_seconds();
    Pipeline& pipeline = models_.pipeline(resolved_);
    const double opening = now_seconds() - start;
    std::vector<Stages> counted;
    double load = opening;
    for (int64_t i = 0; i < options_.warm_up + options_.repeats; ++i) {
      Stages stages = draw(pipeline, i);
      load += stages["load"];
      stages.erase("load");
      if (i >= options_.warm_up) counted.push_back(std::move(stages));
    }
    Json out = {{"machine", machine(resolved_)},         {"request", to_json(resolved_)},
                {"pictures_at_once", options_.pictures}, {"network_calls", calls_},
                {"repeats", options_.repeats},           {"load", load}};
    for (const char* stage : {"encode", "sample", "step", "decode", "save", "picture"}) {
      std::vector<double> seconds;
      for (const Stages& stages : counted) seconds.push_back(stages.at(stage));
      out[stage] = seconds;
    }
    out["peak_memory_bytes"] = peak_memory_bytes();
    return out;
  }

 private:
  // Another text for each run, for texts that were encoded are remembered.
  Stages draw(Pipeline& pipeline, int64_t run) {
    std::vector<Request> pack;
    for (int64_t i = 0; i < options_.pictures; ++i) {
      Request r = resolved_;
      if (!pipeline.checkpoint().pixel) *r.prompt += " " + std::to_string(run * options_.pictures + i);
      r.seed = *r.seed + static_cast<uint64_t>(i);
      pack.push_back(std::move(r));
    }
    const double start = now_seconds();
    const std::vector<Outcome> outcomes = pipeline.generate(pack, [&](int, int total) { calls_ = total; });
    const auto pictures = static_cast<double>(options_.pictures);
    Stages stages = {{"load", 0}, {"encode", 0}, {"sample", 0}, {"decode", 0}};
    const double drawn = now_seconds() - start, saving = now_seconds();
    for (const Outcome& outcome : outcomes) {
      if (const Error* error = std::get_if<Error>(&outcome)) throw *error;
      const auto& picture = std::get<Picture>(outcome);
      stages["load"] += picture.timings.load;
      stages["encode"] += picture.timings.encode;
      stages["sample"] += picture.timings.sample;
      stages["decode"] += picture.timings.decode;
      save(picture.image);
    }
    stages["save"] = now_seconds() - saving;
    stages["step"] = stages["sample"] / calls_;
    stages["picture"] = (drawn - stages["load"] + stages["save"]) / pictures;
    return stages;
  }

  static void save(const Image& image) {
    const fs::path file = fs::temp_directory_path() / ("easel-bench-" + std::to_string(::getpid()) + ".png");
    write_file_atomically(file, encode_png(image, {}), /*overwrite=*/true);
    std::error_code error;
    fs::remove(file, error);
  }

  const BenchOptions& options_;
  ModelsInUse models_;
  const Request resolved_;
  int calls_ = 1;
};

// ---- as text ------------------------------------------------------------------------------------------------------

std::string milliseconds(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, seconds < 0.01 ? "%.2f" : "%.1f", seconds * 1e3);
  return text;
}

std::string table_of(const Json& result) {
  const Json& m = result["machine"];
  std::vector<std::string> sets = m["instruction_sets"];
  const Json& r = result["request"];
  std::string text = "easel " + m["easel"].get<std::string>() + ", libtorch " + m["libtorch"].get<std::string>() +
                     "; " + m["processor"].get<std::string>() + " (" + listed(sets) + "), " + m["threads"].dump() +
                     " threads, " + m["device"].get<std::string>() + ", " + m["dtype"].get<std::string>() + ", " +
                     m["kernels"].get<std::string>() + " kernels\n" + r["model"].get<std::string>() + ", " +
                     r["width"].dump() + "x" + r["height"].dump() + ", " + r["sampler"].get<std::string>() + ", " +
                     r["steps"].dump() + " steps, " + result["network_calls"].dump() + " calls, " +
                     result["pictures_at_once"].dump() + " at once\n\n";
  Table rows = {{"STAGE", "MEDIAN ms", "LEAST ms", "MOST ms"}};
  rows.push_back({"load", milliseconds(result["load"]), "", ""});
  for (const char* stage : {"encode", "step", "sample", "decode", "save", "picture"}) {
    std::vector<double> seconds = result[stage];
    std::sort(seconds.begin(), seconds.end());
    rows.push_back({stage, milliseconds(seconds[seconds.size() / 2]), milliseconds(seconds.front()),
                    milliseconds(seconds.back())});
  }
  char memory[64];
  std::snprintf(memory, sizeof memory, "\npeak memory %.2f GB\n", result["peak_memory_bytes"].get<double>() / 1e9);
  return text + aligned(rows) + memory;
}

}  // namespace

int bench(const Arguments& arguments) {
  const std::optional<BenchOptions> options = read_options(arguments);
  if (!options) return 0;
  set_kernels(options->messages.kernels);
  set_threads(options->messages.threads);
  const Json result = Bench(*options).run();
  print_text(options->messages.json ? result.dump() + "\n" : table_of(result));
  return 0;
}

}  // namespace easel::cli
