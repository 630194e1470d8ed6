// The first word chooses the command; every fault ends as lines on standard error and an exit code.
#include <cstdio>
#include <cstdlib>

#include "cli/commands.h"
#include "cli/out_of_memory.h"
#include "cli/results.h"
#include "cli/signals.h"
#include "easel/runtime.h"

namespace easel::cli {

const std::vector<Command>& command_table() {
  static const std::vector<Command> commands = {
      {"generate", "draw pictures; the command when none is named", generate},
      {"rerun", "draw pictures again from the settings in their PNGs", rerun},
      {"verify", "draw pictures again and compare: same, close or different", verify},
      {"samplers", "list the samplers", samplers},
      {"schedulers", "list the schedules", schedulers},
      {"models", "list the models that are here and where others are to be had", models},
      {"tokens", "show a prompt's tokens", tokens},
      {"forward", "show the forward noising process on a picture", forward},
      {"augment", "draw variations of labelled pictures", augment},
      {"manifest", "merge the manifests of a run's shards: easel manifest merge", manifest},
      {"bench", "measure the time of each stage and the memory of a run", bench},
      {"inspect", "tell what a model file is, or a picture's settings", inspect},
      {"convert", "write a model in another form or dtype", convert},
  };
  return commands;
}

namespace {

int dispatch(const Arguments& arguments) {
  if (!arguments.empty()) {
    for (const Command& command : command_table()) {
      if (arguments.front() == command.name) return command.run({arguments.begin() + 1, arguments.end()});
    }
  }
  return generate(arguments);
}

int report(const Error& error) {
  for (const std::string& fault : error.faults()) log::error(fault);
  if (!error.hint().empty()) log::note(error.hint());
  return error.exit_code();
}

int report_internal(const std::exception& error) {
  const std::string what = error.what();  // libtorch's: the first line says what, the rest where
  log::error("internal error: " + what.substr(0, what.find('\n')));
  log::verbose(what);
  return static_cast<int>(ErrorKind::kInternal);
}

int run(const Arguments& arguments) {
  try {
    return dispatch(arguments);
  } catch (const Interrupted& interrupted) {
    return interrupted.exit_code();
  } catch (const Error& error) {
    return report(error);
  } catch (const std::exception& error) {
    const std::optional<Error> memory = out_of_memory_in_flight();
    return memory ? report(*memory) : report_internal(error);
  }
}

// Without the destructors of libtorch's tables, which take a tenth of a second; what the program wrote has been
// flushed.
int leave(int code) {
  std::fflush(nullptr);
#if !defined(__SANITIZE_ADDRESS__)  // which looks for leaks at the end
  std::_Exit(code);
#endif
  return code;
}

}  // namespace

int run_program(const Arguments& arguments) {
  claim_standard_descriptors();
  install_signal_handlers();
#if !defined(__SANITIZE_ADDRESS__)  // which would not see that memory is used after it was freed
  reuse_memory();
#endif
  return leave(run(arguments));
}

}  // namespace easel::cli
