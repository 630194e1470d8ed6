// The request's fields as options of a command.
#pragma once

#include <CLI/CLI.hpp>

#include "easel/pipeline.h"

namespace easel::cli {

using RequestOptions = std::vector<std::pair<const RequestField*, CLI::Option*>>;

// All that have flags, in the table's order, grouped for --help.
RequestOptions add_request_options(CLI::App& app);

// Those that were given, into `request`; fields named in `lists` take several values and are left to the caller. Adds
// every fault.
void read_request_options(const RequestOptions& options, const std::set<std::string>& lists, Request& request,
                          Faults& faults);

// The option of a field that has flags.
const CLI::Option& option_of(const RequestOptions& options, const std::string& field);

}  // namespace easel::cli
