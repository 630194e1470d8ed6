// easel generate: options → plan → checkpoint → pictures.
#include "cli/drawing.h"
#include "cli/generate_options.h"
#include "cli/results.h"

namespace easel::cli {

namespace {

// A word that only a table elsewhere knows, checked before any file is opened.
template <typename Check>
void collect_usage_faults(Faults& faults, const Check& check) {
  try {
    check();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kUsage) return;  // it comes again when it is that turn
    for (const std::string& fault : error.faults())
      faults.add(fault + (error.hint().empty() ? "" : " (" + error.hint() + ")"));
  }
}

void check_words(const Request& common, Faults& faults) {
  if (common.sampler) collect_usage_faults(faults, [&] { choose_sampler(*common.sampler); });
  if (common.scheduler) collect_usage_faults(faults, [&] { find_schedule(*common.scheduler); });
  if (common.device && *common.device != "auto")
    collect_usage_faults(faults, [&] { resolve_precision(*common.device, DtypeChoice::kF32); });
}

void check_single_pictures(const GenerateOptions& options, const Plan& plan, Faults& faults) {
  if (options.to_standard_output && plan.size() > 1)
    faults.add("-o -: standard output takes one picture, these are " + std::to_string(plan.size()));
  if (options.trajectory && plan.size() > 1)
    faults.add("--trajectory: a strip shows one picture's way, these are " + std::to_string(plan.size()));
}

void tell_random_seeds(const GenerateOptions& options, const Plan& plan) {
  if (options.common.seed) return;
  for (std::size_t i = 0; i < plan.seeds().size(); ++i) {
    const std::string which = plan.seeds().size() > 1 ? " for " + json(plan.prompts()[i]).dump() : "";
    log::note("seed " + std::to_string(plan.seeds()[i]) + which + ", drawn at random; -s repeats it");
  }
}

void tell_assumed_prediction(const Request& common, const Checkpoint& checkpoint) {
  const FileIdentity& id = checkpoint.identity;
  if (id.prediction_assumed && !common.prediction)
    log::note("prediction " + id.prediction + ", " + id.prediction_reason + "; --prediction says otherwise");
}

int print_requests(const Plan& plan, const Checkpoint& checkpoint, const Precision& precision) {
  for (int64_t i = 0; i < plan.size(); ++i)
    print_line(to_json(resolve(plan.job(i).request, checkpoint, precision)).dump());
  return 0;
}

}  // namespace

int generate(const Arguments& arguments) {
  Faults faults;
  const std::optional<GenerateOptions> options = read_generate_options(arguments, faults);
  if (!options) return 0;
  set_threads(options->threads);

  const Plan plan(options->common, options->prompts, options->init_imgs, options->batch_count, random_seed, faults);
  NameFacts model_facts;  // what names need of the checkpoint
  const auto facts_of = [&](int64_t i) {
    const Job job = plan.job(i);
    return NameFacts{i, *job.request.seed, *job.request.prompt, model_facts.sampler, model_facts.model};
  };
  const int64_t files = options->to_standard_output ? 0 : plan.size();
  Outputs outputs(options->output, files, faults);
  check_words(options->common, faults);
  check_single_pictures(*options, plan, faults);
  if (!outputs.needs_checkpoint()) outputs.check_targets(facts_of, faults);
  faults.raise_if_any(ErrorKind::kUsage, "see 'easel --help'");

  const Request& common = options->common;
  Checkpoint checkpoint = open_models(common);
  tell_assumed_prediction(common, checkpoint);
  const Precision precision =
      resolve_precision(common.device.value_or("auto"), dtype_choice(common.dtype.value_or("auto")));
  model_facts.sampler = *resolve(plan.job(0).request, checkpoint, precision).sampler;
  model_facts.model = checkpoint.name();
  if (outputs.needs_checkpoint()) outputs.check_targets(facts_of, faults);
  faults.raise_if_any(ErrorKind::kUsage);

  tell_random_seeds(*options, plan);
  if (options->dry_run) return print_requests(plan, checkpoint, precision);
  if (files > 0) outputs.prepare(facts_of);
  Pipeline pipeline(std::move(checkpoint), precision);
  return Drawing(*options, plan, pipeline, outputs, facts_of).run();
}

}  // namespace easel::cli
