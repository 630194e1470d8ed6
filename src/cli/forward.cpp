// easel forward: the forward noising process on a picture, as a labelled strip.
#include <unistd.h>

#include <charconv>

#include "cli/arguments.h"
#include "cli/results.h"
#include "easel/batch.h"

namespace easel::cli {

namespace {

struct ForwardCommand {
  std::string picture, model = kBundledModel;
  std::vector<int64_t> timesteps = {0, 50, 200, 500, 999};
  uint64_t seed = 0;
  bool latent = false, to_standard_output = false;
  std::optional<Outputs> outputs;  // none for standard output
};

void read_output(const std::string& output, bool overwrite, ForwardCommand& command, Faults& faults) {
  command.to_standard_output = output == "-";
  if (command.to_standard_output) {
    if (overwrite) faults.add("--overwrite has no effect with -o -");
    if (::isatty(STDOUT_FILENO)) faults.add("-o -: standard output is a terminal; send it to a file or a program");
    return;
  }
  if (output.find_first_of("{}") != std::string::npos) {
    faults.add("-o " + output + ": a strip's name has no {fields}");
    return;
  }
  command.outputs.emplace(OutputOptions{.output = output, .outdir = {}, .overwrite = overwrite}, 1, faults);
  command.outputs->check_targets({NameFacts{}}, faults);
}

std::vector<int64_t> read_timesteps(std::string_view text, Faults& faults) {
  std::vector<int64_t> values;
  const std::string given(text);
  for (bool more = true; more;) {
    const std::size_t comma = std::min(text.find(','), text.size());
    more = comma < text.size();
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + comma, value);
    if (error != std::errc() || end != text.data() + comma || value < 0) {
      faults.add("--timesteps \"" + given + "\": expected whole numbers from 0, as 0,50,200,500,999");
      return {};
    }
    values.push_back(value);
    if (more) text.remove_prefix(comma + 1);
  }
  return values;
}

std::optional<ForwardCommand> read_options(const Arguments& arguments) {
  CLI::App app("The forward process of diffusion on a picture: what it is at each timestep, side by side.",
               "easel forward");
  const CLI::Option* picture = add_text(app, "-i,--init-img", "FILE", "the picture; the bare argument", "Options");
  const CLI::Option* output =
      add_text(app, "-o,--output", "FILE", "the strip; - is standard output (forward.png)", "Options");
  const CLI::Option* timesteps =
      add_text(app, "--timesteps", "T,T,...", "training timesteps (0,50,200,500,999)", "Options");
  const CLI::Option* model =
      add_text(app, "-m,--model", "MODEL", "whose noise schedule (the bundled model's)", "Options");
  const CLI::Option* seed = add_text(app, "-s,--seed", "N", "seed of the noise (0)", "Options");
  const CLI::Option* latent = add_switch(app, "--latent", "noise the model's latent and show it decoded", "Options");
  const CLI::Option* overwrite = add_switch(app, "--overwrite", "replace an existing file", "Options");
  Faults faults;
  if (!parse(app, arguments, "-i", faults)) return std::nullopt;

  ForwardCommand command;
  if (const auto text = value_of(*picture, faults))
    command.picture = *text;
  else
    faults.add("no picture was given");
  command.model = value_of(*model, faults).value_or(command.model);
  if (const auto text = value_of(*timesteps, faults)) command.timesteps = read_timesteps(*text, faults);
  Request r;
  if (const auto text = value_of(*seed, faults)) set_from_text(r, *find_request_field("seed"), *text, "--seed", faults);
  command.seed = r.seed.value_or(0);
  command.latent = latent->count() > 0;
  read_output(value_of(*output, faults).value_or("forward.png"), overwrite->count() > 0, command, faults);
  faults.raise_if_any(ErrorKind::kUsage, "see 'easel forward --help'");
  return command;
}

}  // namespace

int forward(const Arguments& arguments) {
  std::optional<ForwardCommand> command = read_options(arguments);
  if (!command) return 0;
  if (command->outputs) command->outputs->prepare({NameFacts{}});
  const Image picture = read_picture(command->picture);
  const Checkpoint checkpoint = open_checkpoint(find_model(command->model));
  const Precision precision = resolve_precision("auto", DtypeChoice::kF32);
  const std::vector<LabelledImage> strip =
      forward_process(checkpoint, precision, picture,
                      {.timesteps = command->timesteps, .seed = command->seed, .latent = command->latent});
  const Image sheet = contact_sheet(strip, static_cast<int>(strip.size()));
  const std::string png = encode_png(sheet, {});
  if (command->to_standard_output)
    print_text(png);
  else
    print_line(command->outputs->write({}, png).string());
  return 0;
}

}  // namespace easel::cli
