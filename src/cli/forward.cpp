// easel forward: the forward noising process on a picture, as a labelled strip.
#include <charconv>

#include "cli/arguments.h"
#include "cli/results.h"
#include "easel/batch.h"

namespace easel::cli {

namespace {

struct ForwardCommand {
  std::string picture, output = "forward.png", model = kBundledModel;
  std::vector<int64_t> timesteps = {0, 50, 200, 500, 999};
  uint64_t seed = 0;
  bool latent = false, overwrite = false;
};

std::vector<int64_t> read_timesteps(std::string_view text, Faults& faults) {
  std::vector<int64_t> values;
  const std::string given(text);
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + comma, value);
    if (error != std::errc() || end != text.data() + comma || value < 0) {
      faults.add("--timesteps \"" + given + "\": expected whole numbers from 0, as 0,50,200,500,999");
      return {};
    }
    values.push_back(value);
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  if (values.empty()) faults.add("--timesteps is empty: expected whole numbers from 0, as 0,50,200,500,999");
  return values;
}

std::optional<ForwardCommand> read_options(const Arguments& arguments) {
  CLI::App app("The forward process of diffusion on a picture: what it is at each timestep, side by side.",
               "easel forward");
  const CLI::Option* picture = add_text(app, "-i,--init-img", "FILE", "the picture; the bare argument", "Options");
  const CLI::Option* output = add_text(app, "-o,--output", "FILE", "the strip (forward.png)", "Options");
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
  command.output = value_of(*output, faults).value_or(command.output);
  command.model = value_of(*model, faults).value_or(command.model);
  if (const auto text = value_of(*timesteps, faults)) command.timesteps = read_timesteps(*text, faults);
  Request r;
  if (const auto text = value_of(*seed, faults)) set_from_text(r, *find_request_field("seed"), *text, "--seed", faults);
  command.seed = r.seed.value_or(0);
  command.latent = latent->count() > 0;
  command.overwrite = overwrite->count() > 0;
  std::error_code error;
  if (!command.overwrite && std::filesystem::exists(command.output, error))
    faults.add(command.output + " exists: --overwrite replaces it");
  faults.raise_if_any(ErrorKind::kUsage, "see 'easel forward --help'");
  return command;
}

}  // namespace

int forward(const Arguments& arguments) {
  const std::optional<ForwardCommand> command = read_options(arguments);
  if (!command) return 0;
  const Image picture = read_picture(command->picture);
  const Checkpoint checkpoint = open_checkpoint(find_model(command->model));
  const Precision precision = resolve_precision("auto", DtypeChoice::kF32);
  const std::vector<LabelledImage> strip =
      forward_process(checkpoint, precision, picture,
                      {.timesteps = command->timesteps, .seed = command->seed, .latent = command->latent});
  const Image sheet = contact_sheet(strip, static_cast<int>(strip.size()));
  write_file_atomically(command->output, encode_png(sheet, {}), command->overwrite);
  print_line(command->output);
  return 0;
}

}  // namespace easel::cli
