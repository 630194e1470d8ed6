// Command lines through CLI11, which keeps the table of options and writes the help. What its version 2.1 would misread
// is settled before: see plain_arguments().
#pragma once

#include <CLI/CLI.hpp>
#include <optional>

#include "cli/commands.h"
#include "easel/core.h"

namespace easel::cli {

// An option with a text value, which may be given several times; values_of() and value_of() read it.
CLI::Option* add_text(CLI::App& app, const std::string& flags, const std::string& value_name, const std::string& help,
                      const std::string& group);
CLI::Option* add_switch(CLI::App& app, const std::string& flags, const std::string& help, const std::string& group);

// Reads the arguments into the app's options. `positional`: the flag that a bare argument stands for ("-p"); empty when
// the command takes none. Adds a fault for each unknown option (with the nearest known ones), each missing value and
// each value nobody takes. False when --help or --version was asked for, which has then been answered.
bool parse(CLI::App& app, const Arguments& arguments, const std::string& positional, Faults& faults);

// The value as typed; nullopt when the option was not given. A fault when it was given twice.
std::optional<std::string> value_of(const CLI::Option& option, Faults& faults);
// The same as a whole number in low … high.
std::optional<int64_t> whole_number_of(const CLI::Option& option, int64_t low, int64_t high, Faults& faults);

// "--steps" of "-s,--steps", for messages.
std::string spelling_of(const CLI::Option& option);

}  // namespace easel::cli
