// easel verify: pictures drawn again as their PNGs say, and compared with them.
#include <torch/headeronly/version.h>

#include <cstdio>

#include "cli/arguments.h"
#include "cli/generate_help.h"
#include "cli/redraw.h"
#include "cli/request_options.h"
#include "cli/results.h"
#include "cli/run_options.h"
#include "easel/jobs.h"
#include "easel/junit.h"

namespace easel::cli {

namespace {

constexpr double kCloseDecibels = 40;

constexpr const char* kAbout =
    "Draws pictures again as their PNGs say and compares: same (every value is equal), close (a PSNR of 40 dB\n"
    "and more) or different. Exit code 0 where all are same or close, else 6.";

struct VerifyOptions {
  std::vector<std::string> files;
  Request given;  // where models and pictures are now, and what computes
  bool strict = false;
  std::optional<std::string> junit;
  MessageOptions messages;
};

// Other settings would make other pictures; files may have moved.
RequestOptions add_place_options(CLI::App& app) {
  RequestOptions options;
  for (const RequestField& field : request_fields()) {
    if (field.is_path || field.name == "device" || field.name == "dtype")
      options.emplace_back(&field,
                           add_text(app, field.flags, field.value_name, "in place of the recorded one", kModelGroup));
  }
  return options;
}

std::optional<VerifyOptions> read_options(const Arguments& arguments, Faults& faults) {
  CLI::App app(kAbout, "easel verify");
  app.formatter(help_formatter_of("easel verify [options] PNG..."));
  const CLI::Option* files = add_text(app, "--png", "FILE", "", "");  // hidden: what bare arguments stand for
  const CLI::Option* strict = add_switch(app, "--strict", "close is not enough, all must be same", kPictureGroup);
  const CLI::Option* junit = add_text(app, "--junit", "FILE", "a JUnit report, which CI systems show", kOutputGroup);
  const RequestOptions places = add_place_options(app);
  const MessageFlags messages = add_message_options(app);
  if (!parse(app, arguments, "--png", faults)) return std::nullopt;

  VerifyOptions out;
  out.files = files->results();
  out.strict = strict->count() > 0;
  out.junit = value_of(*junit, faults);
  out.messages = read_message_options(messages, faults);
  read_request_options(places, {}, out.given, faults);
  check_words(out.given, faults);
  if (out.junit == "") faults.add("--junit: the name is empty");
  if (out.files.empty()) faults.add("nothing to verify: easel verify PNG...");
  return out;
}

struct Verdict {
  std::string word;  // same, close, different
  std::optional<ImageDifference> difference;
  std::string sizes;                // of pictures of two sizes
  std::vector<std::string> models;  // that are not the recorded ones
};

Verdict verdict_on(const Image& drawn, const Image& recorded, std::vector<std::string> models) {
  Verdict verdict{"different", compare(drawn, recorded), {}, std::move(models)};
  if (!verdict.difference)
    verdict.sizes = mismatch(recorded, drawn);
  else if (verdict.difference->is_equal())
    verdict.word = "same";
  else if (verdict.difference->psnr >= kCloseDecibels)
    verdict.word = "close";
  return verdict;
}

std::string decibels(double psnr) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f dB", psnr);  // "inf dB" for equal pictures
  return text;
}

std::string in_words(const Verdict& verdict) {
  std::string text = verdict.word;
  if (verdict.difference)
    text += ", PSNR " + decibels(verdict.difference->psnr) + ", largest difference " +
            std::to_string(verdict.difference->largest);
  else
    text += ", " + verdict.sizes;
  for (const std::string& model : verdict.models) text += ", " + model;
  return text;
}

// psnr is null for equal pictures, all three numbers for pictures of two sizes.
std::string as_json(const Verdict& verdict, const Recorded& recorded) {
  nlohmann::ordered_json object = {{"path", recorded.file.string()},
                                   {"verdict", verdict.word},
                                   {"psnr", nullptr},
                                   {"largest", nullptr},
                                   {"mean", nullptr}};
  if (const auto& difference = verdict.difference) {
    if (!difference->is_equal()) object["psnr"] = difference->psnr;
    object["largest"] = difference->largest;
    object["mean"] = difference->mean;
  }
  if (!verdict.sizes.empty()) object["sizes"] = verdict.sizes;
  object["other_models"] = verdict.models;
  object["versions"] = recorded.versions;
  return object.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

class Verification {
 public:
  explicit Verification(const VerifyOptions& options) : options_(options) {
    if (options_.junit) report_.emplace(*options_.junit, "easel verify");
  }

  int run() {
    redraws_ = plan_redraws(options_.files, [&](const Recorded& recorded) { return request_of(recorded); });
    Progress progress(options_.messages.progress, static_cast<int64_t>(redraws_.size()));
    const int64_t failed = draw_again(
        redraws_, models_, progress, [&](const Redrawn& drawn) { judge(drawn, progress); },
        [&](std::size_t i, const Error& error) {
          if (report_) report_->add({.name = redraws_[i].recorded.file.string(), .error = error.what()});
        });
    if (report_) report_->write();
    if (unmet_ > 0)
      log::error(std::to_string(unmet_) + " of " + std::to_string(redraws_.size()) + " pictures " +
                 (options_.strict ? "are not the same" : "are different"));
    if (failed > 0) return static_cast<int>(ErrorKind::kPicture);
    return unmet_ > 0 ? static_cast<int>(ErrorKind::kExpectation) : 0;
  }

 private:
  Request request_of(const Recorded& recorded) {
    const Request& given = options_.given;
    if (!given.model && !given.vae && !given.refiner) models_.open_recorded(recorded.request);
    try {
      return models_.resolved(lay_over(recorded.request, given));
    } catch (const Error& error) {
      const bool as_recorded = to_json(given).empty();
      if (!as_recorded || error.kind() != ErrorKind::kUsage) throw;
      throw Error(ErrorKind::kFile, error.faults(), "its recorded settings cannot be drawn");
    }
  }

  void judge(const Redrawn& drawn, Progress& progress) {
    const Recorded& recorded = redraws_[drawn.index].recorded;
    const Verdict verdict =
        verdict_on(drawn.picture.image, read_png(recorded.file), models_.differences(recorded.hashes, drawn.request));
    const bool is_met = verdict.word == "same" || (verdict.word == "close" && !options_.strict);
    unmet_ += !is_met;
    progress.finish_picture(static_cast<int64_t>(drawn.index), recorded.file.string(), *drawn.request.seed);
    print_line(options_.messages.json ? as_json(verdict, recorded) : recorded.file.string() + ": " + in_words(verdict));
    if (verdict.word != "same") tell_versions(recorded);
    if (report_)
      report_->add(
          {.name = recorded.file.string(), .seconds = drawn.seconds, .failure = is_met ? "" : in_words(verdict)});
  }

  static void tell_versions(const Recorded& recorded) {
    const std::map<std::string, std::string> here = {{"easel", EASEL_VERSION}, {"libtorch", TORCH_VERSION}};
    for (const auto& [program, version] : recorded.versions) {
      const auto now = here.find(program);
      if (now != here.end() && now->second != version)
        log::note(recorded.file.string() + ": drawn with " + program + " " + version + ", this is " + now->second);
    }
  }

  const VerifyOptions& options_;
  std::optional<JunitReport> report_;
  ModelsInUse models_;
  std::vector<Redraw> redraws_;
  int64_t unmet_ = 0;
};

}  // namespace

int verify(const Arguments& arguments) {
  Faults faults;
  const std::optional<VerifyOptions> options = read_options(arguments, faults);
  if (!options) return 0;
  faults.raise_if_any(ErrorKind::kUsage, "see 'easel verify --help'");
  set_kernels(options->messages.kernels);
  set_threads(options->messages.threads);
  return Verification(*options).run();
}

}  // namespace easel::cli
