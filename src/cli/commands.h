// The commands. Each takes the arguments after its name, writes results to standard output and returns the exit code;
// what goes wrong is thrown (Error, Interrupted).
#pragma once

#include <string>
#include <vector>

namespace easel::cli {

using Arguments = std::vector<std::string>;

int generate(const Arguments& arguments);
int samplers(const Arguments& arguments);
int schedulers(const Arguments& arguments);
int models(const Arguments& arguments);
int tokens(const Arguments& arguments);
int forward(const Arguments& arguments);
int inspect(const Arguments& arguments);
int convert(const Arguments& arguments);
int rerun(const Arguments& arguments);
int verify(const Arguments& arguments);
int manifest(const Arguments& arguments);
int augment(const Arguments& arguments);
int bench(const Arguments& arguments);

struct Command {
  const char* name;
  const char* summary;
  int (*run)(const Arguments&);
};
const std::vector<Command>& command_table();

// All that the program does, from its first call to its exit code, with which it ends the process (under a sanitizer it
// returns it).
int run_program(const Arguments& arguments);

}  // namespace easel::cli
