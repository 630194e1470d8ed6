#include "cli/request_options.h"

#include "cli/arguments.h"
#include "cli/generate_help.h"

namespace easel::cli {

RequestOptions add_request_options(CLI::App& app) {
  RequestOptions options;
  for (const RequestField& field : request_fields()) {
    if (field.flags.empty()) continue;
    CLI::Option* option = field.is_switch() ? add_switch(app, field.flags, field.help, group_of(field))
                                            : add_text(app, field.flags, field.value_name, field.help, group_of(field));
    options.emplace_back(&field, option);
  }
  return options;
}

void read_request_options(const RequestOptions& options, const std::set<std::string>& lists, Request& request,
                          Faults& faults) {
  for (const auto& [field, option] : options) {
    if (lists.contains(field->name)) continue;
    if (field->is_switch()) {
      if (option->count() > 0) set_from_text(request, *field, "true", spelling_of(*option), faults);
    } else if (field->is_list()) {
      for (const std::string& text : option->results()) {
        set_from_text(request, *field, text, spelling_of(*option), faults);
        if (field->is_path && text.empty()) faults.add(spelling_of(*option) + ": the name is empty");
      }
    } else if (const auto text = value_of(*option, faults)) {
      set_from_text(request, *field, *text, spelling_of(*option), faults);
      if (field->is_path && text->empty()) faults.add(spelling_of(*option) + ": the name is empty");
    }
  }
}

const CLI::Option& option_of(const RequestOptions& options, const std::string& field) {
  for (const auto& [row, option] : options) {
    if (row->name == field) return *option;
  }
  TORCH_CHECK(false, "no option for the field ", field);
}

}  // namespace easel::cli
