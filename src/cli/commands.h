// The commands. Each takes the arguments after its name, writes results to standard output and returns the exit code;
// what goes wrong is thrown (Error, Interrupted).
#pragma once

#include <string>
#include <vector>

namespace easel::cli {

using Arguments = std::vector<std::string>;

int generate(const Arguments& arguments);
int samplers(const Arguments& arguments);

struct Command {
  const char* name;
  const char* summary;
  int (*run)(const Arguments&);
};
const std::vector<Command>& command_table();

}  // namespace easel::cli
