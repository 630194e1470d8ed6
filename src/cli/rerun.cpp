// easel rerun: pictures drawn again from what their PNGs say, with other settings where they are given.
#include <set>

#include "cli/arguments.h"
#include "cli/generate_help.h"
#include "cli/generate_options.h"
#include "cli/overrides.h"
#include "cli/redraw.h"
#include "cli/request_options.h"
#include "cli/results.h"
#include "cli/run_options.h"

namespace easel::cli {

namespace {

constexpr const char* kAbout =
    "Draws pictures again from the settings that their PNGs carry. Options replace recorded settings; a recorded\n"
    "value that the model would have chosen by itself counts as not asked for, so that another model or size comes\n"
    "with its own defaults. A recorded setting that does not go with the options is left out, with a note.";

struct RerunOptions {
  std::vector<std::string> files;
  Request given;
  std::set<std::string> without;
  MessageOptions messages;
  PictureOutput output;
};

// A prompt may come from standard input, as of generate.
void read_prompt(const CLI::Option& option, Request& given, Faults& faults) {
  std::optional<std::string> text = value_of(option, faults);
  if (!text) return;
  const std::string spelled = *text == "-" ? "the prompt from standard input" : spelling_of(option);
  if (*text == "-") text = read_prompt_from_standard_input();
  set_from_text(given, *find_request_field("prompt"), *text, spelled, faults);
  if (text->find('\0') != std::string::npos) faults.add(spelled + ": it holds a NUL byte, so it is no text");
}

std::vector<std::string> removable_fields() {
  std::vector<std::string> names;
  for (const RequestField& field : request_fields()) {
    const bool is_needed = field.flags.empty() || field.name == "prompt" || field.name == "seed" ||
                           field.name == "model" || field.name == "device" || field.name == "dtype";
    if (!is_needed) names.push_back(field.name);
  }
  return names;
}

// --without negative_prompt,hires: as JSON or the long flags have the names.
void read_without(const CLI::Option& option, RerunOptions& out, Faults& faults) {
  const std::vector<std::string> known = removable_fields();
  for (const std::string& value : option.results()) {
    std::istringstream names(value);
    for (std::string name; std::getline(names, name, ',');) {
      std::replace(name.begin(), name.end(), '-', '_');
      const RequestField* field = find_request_field(name);
      if (field == nullptr || std::find(known.begin(), known.end(), field->name) == known.end()) {
        faults.add("--without " + shown(json(name)) +
                   ": no setting that can be left out; nearest: " + listed(nearest_names(name, known)));
      } else if (is_set(out.given, *field)) {
        faults.add("--without " + name + ": it is given as well");
      } else {
        out.without.insert(field->name);
      }
    }
  }
}

std::optional<RerunOptions> read_options(const Arguments& arguments, Faults& faults) {
  CLI::App app(kAbout, "easel rerun");
  app.formatter(help_formatter_of("easel rerun [options] PNG..."));
  const CLI::Option* files = add_text(app, "--png", "FILE", "", "");  // hidden: what bare arguments stand for
  const RequestOptions request = add_request_options(app);
  const CLI::Option* without = add_text(app, "--without", "NAME,...",
                                        "leave recorded settings out: negative_prompt, hires, vae ...", kPictureGroup);
  const MessageFlags messages = add_message_options(app);
  const OutputFlags output = add_output_options(app);
  if (!parse(app, arguments, "--png", faults)) return std::nullopt;

  RerunOptions out;
  out.files = files->results();
  out.messages = read_message_options(messages, faults);
  out.output = read_output_options(output, out.messages.json, faults);
  read_request_options(request, {"prompt"}, out.given, faults);
  read_prompt(option_of(request, "prompt"), out.given, faults);
  read_without(*without, out, faults);
  check_words(out.given, faults);
  if (out.files.empty()) faults.add("nothing to draw again: easel rerun PNG...");
  if (out.output.to_standard_output && out.files.size() > 1)
    faults.add("-o -: standard output takes one picture, these are " + std::to_string(out.files.size()));
  return out;
}

class Rerun {
 public:
  Rerun(const RerunOptions& options, Outputs& outputs) : options_(options), outputs_(outputs) {}

  int run() {
    Overrides overrides(options_.given, options_.without);
    redraws_ =
        plan_redraws(options_.files, [&](const Recorded& recorded) { return overrides.apply(recorded, models_); });
    Faults faults;
    outputs_.check_targets(all_facts(), faults);
    faults.raise_if_any(ErrorKind::kUsage);
    overrides.tell_left_out();
    if (options_.output.dry_run) return print_requests();
    if (!options_.output.to_standard_output) outputs_.prepare(all_facts());
    Progress progress(options_.messages.progress, static_cast<int64_t>(redraws_.size()));
    const int64_t failed =
        draw_again(redraws_, models_, progress, [&](const Redrawn& drawn) { save(drawn, progress); });
    return failed > 0 ? static_cast<int>(ErrorKind::kPicture) : 0;
  }

 private:
  int print_requests() const {
    for (const Redraw& redraw : redraws_) print_line(to_json(redraw.request).dump());
    return 0;
  }

  NameFacts facts(int64_t i) {
    const Request& r = redraws_[static_cast<std::size_t>(i)].request;
    return {i, *r.seed, *r.prompt, *r.sampler, models_.open(r).name()};
  }

  std::vector<NameFacts> all_facts() {
    std::vector<NameFacts> all;
    for (std::size_t i = 0; i < redraws_.size(); ++i) all.push_back(facts(static_cast<int64_t>(i)));
    return all;
  }

  // Another model was asked for, or the recorded one is no longer what it was.
  void tell_other_models(const Redraw& redraw) {
    if (options_.given.model || options_.given.vae || options_.given.refiner) return;
    for (const std::string& difference : models_.differences(redraw.recorded.hashes, redraw.request)) {
      if (told_.insert(*redraw.request.model + difference).second)
        log::warn(redraw.recorded.file.string() + ": " + difference + "; the picture may differ");
    }
  }

  std::string png_of(const Redrawn& drawn) {
    if (!options_.output.metadata) return encode_png(drawn.picture.image, {});
    const Pipeline& pipeline = models_.pipeline(redraws_[drawn.index].request);
    return encode_png(drawn.picture.image, png_texts(drawn.request, models_.hashes(), pipeline.checkpoint()));
  }

  void save(const Redrawn& drawn, Progress& progress) {
    tell_other_models(redraws_[drawn.index]);
    const auto index = static_cast<int64_t>(drawn.index);
    const double start = now_seconds();
    const std::string png = png_of(drawn);
    if (options_.output.to_standard_output) {
      print_text(png);
      return progress.finish_picture(index, "-", *drawn.request.seed);
    }
    const std::string path = outputs_.write(facts(index), png).string();
    progress.finish_picture(index, path, *drawn.request.seed);
    print_line(options_.messages.json ? result(drawn, path, now_seconds() - start) : path);
  }

  std::string result(const Redrawn& drawn, const std::string& path, double save_seconds) const {
    const Timings& t = drawn.picture.timings;
    const nlohmann::ordered_json object = {
        {"index", drawn.index},
        {"path", path},
        {"from", redraws_[drawn.index].recorded.file.string()},
        {"seed", *drawn.request.seed},
        {"request", to_json(drawn.request)},
        {"timings",
         {{"load", t.load}, {"encode", t.encode}, {"sample", t.sample}, {"decode", t.decode}, {"save", save_seconds}}}};
    return object.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  }

  const RerunOptions& options_;
  Outputs& outputs_;
  ModelsInUse models_;
  std::vector<Redraw> redraws_;
  std::set<std::string> told_;
};

}  // namespace

int rerun(const Arguments& arguments) {
  Faults faults;
  const std::optional<RerunOptions> options = read_options(arguments, faults);
  if (!options) return 0;
  const bool to_files = !options->output.to_standard_output;
  Outputs outputs(options->output.files, to_files ? static_cast<int64_t>(options->files.size()) : 0, faults);
  faults.raise_if_any(ErrorKind::kUsage, "see 'easel rerun --help'");
  set_kernels(options->messages.kernels);
  set_threads(options->messages.threads);
  return Rerun(*options, outputs).run();
}

}  // namespace easel::cli
