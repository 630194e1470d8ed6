#include "cli/arguments.h"

#include <charconv>

#include "cli/results.h"

namespace easel::cli {

namespace {

bool takes_value(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

std::vector<std::string> known_flags(const CLI::App& app) {
  std::vector<std::string> flags;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) flags.push_back("--" + name);
    for (const std::string& name : option->get_snames()) flags.push_back("-" + name);
  }
  return flags;
}

// Rewrites arguments so that each option is followed by its one value and each bare argument by its flag. CLI11 2.1
// takes the next argument for the value of `--negative-prompt=`, reads `-prompt x` as `-p rompt`, and takes repeated
// positionals only in the mode that splits "[a cat, a dog]" at its comma.
class PlainArguments {
 public:
  PlainArguments(const CLI::App& app, const std::string& positional, Faults& faults)
      : app_(app), positional_(positional), faults_(faults) {}

  Arguments read(const Arguments& given) {
    for (std::size_t at = 0; at < given.size(); ++at) {
      const std::string& argument = given[at];
      const std::string* next = at + 1 < given.size() ? &given[at + 1] : nullptr;
      bool used_next = false;
      if (only_bare_ || argument.size() < 2 || argument[0] != '-') {
        bare(argument);
      } else if (argument == "--") {
        only_bare_ = true;
      } else if (argument[1] == '-') {
        used_next = long_option(argument, next);
      } else {
        used_next = short_options(argument, next);
      }
      at += used_next;
    }
    return std::move(plain_);
  }

 private:
  void bare(const std::string& argument) {
    if (positional_.empty()) {
      faults_.add("unexpected argument '" + argument + "'");
    } else {
      plain_.insert(plain_.end(), {positional_, argument});
    }
  }

  // Both return whether `next` was the value.
  bool long_option(const std::string& argument, const std::string* next) {
    const std::size_t equals = argument.find('=');
    const std::string name = argument.substr(0, equals);
    const CLI::Option* option = app_.get_option_no_throw(name);
    if (option == nullptr) {
      return unknown(name, equals == std::string::npos ? next : nullptr);
    } else if (equals == std::string::npos) {
      return add(name, *option, next);
    } else if (!takes_value(*option)) {
      faults_.add(name + " takes no value");
    } else {
      plain_.insert(plain_.end(), {name, argument.substr(equals + 1)});
    }
    return false;
  }

  bool short_options(const std::string& argument, const std::string* next) {
    if (app_.get_option_no_throw("-" + argument.substr(0, argument.find('='))) != nullptr) {
      faults_.add(argument + ": long options have two dashes: -" + argument);
      return false;
    }
    for (std::size_t at = 1; at < argument.size(); ++at) {
      const std::string name = {'-', argument[at]};
      const CLI::Option* option = app_.get_option_no_throw(name);
      if (option == nullptr) return unknown(argument, next);
      const std::string rest = argument.substr(at + 1);
      if (!takes_value(*option)) {
        plain_.push_back(name);
      } else if (rest.empty()) {
        return add(name, *option, next);
      } else {
        plain_.insert(plain_.end(), {name, rest});
        return false;
      }
    }
    return false;
  }

  bool add(const std::string& name, const CLI::Option& option, const std::string* next) {
    if (!takes_value(option)) {
      plain_.push_back(name);
      return false;
    }
    if (next == nullptr) {
      faults_.add(name + ": its value is missing");
      return false;
    }
    plain_.insert(plain_.end(), {name, *next});
    return true;
  }

  // What follows is taken for its value where the nearest option has one: not for a second prompt.
  bool unknown(const std::string& name, const std::string* next) {
    const std::vector<std::string> nearest = nearest_names(name, known_flags(app_));
    faults_.add("unknown option " + name + "; nearest: " + joined(nearest));
    const bool could_be_value = next != nullptr && !next->starts_with('-') && !nearest.empty();
    const CLI::Option* meant = could_be_value ? app_.get_option_no_throw(nearest.front()) : nullptr;
    return meant != nullptr && takes_value(*meant);
  }

  const CLI::App& app_;
  const std::string positional_;
  Faults& faults_;
  bool only_bare_ = false;
  Arguments plain_;
};

}  // namespace

CLI::Option* add_text(CLI::App& app, const std::string& flags, const std::string& value_name, const std::string& help,
                      const std::string& group) {
  CLI::Option* option = app.add_option(
      flags, [](const CLI::results_t&) { return true; }, help);
  return option->type_name(value_name)->group(group)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

CLI::Option* add_switch(CLI::App& app, const std::string& flags, const std::string& help, const std::string& group) {
  return app.add_flag(flags, help)->group(group);
}

bool parse(CLI::App& app, const Arguments& arguments, const std::string& positional, Faults& faults) {
  Arguments plain = PlainArguments(app, positional, faults).read(arguments);
  std::reverse(plain.begin(), plain.end());  // the order that CLI11's parse() asks for
  try {
    app.parse(plain);
    return true;
  } catch (const CLI::CallForHelp&) {
    print_text(app.help());
  } catch (const CLI::CallForVersion& version) {
    print_text(std::string(version.what()) + "\n");
  }
  return false;
}

std::string spelling_of(const CLI::Option& option) { return option.get_name(); }

std::optional<std::string> value_of(const CLI::Option& option, Faults& faults) {
  const std::vector<std::string>& values = option.results();
  if (values.size() > 1) faults.add(spelling_of(option) + " is given " + std::to_string(values.size()) + " times");
  return values.size() == 1 ? std::optional(values.front()) : std::nullopt;
}

std::optional<int64_t> whole_number_of(const CLI::Option& option, int64_t low, int64_t high, Faults& faults) {
  const std::optional<std::string> text = value_of(option, faults);
  if (!text) return std::nullopt;
  int64_t number = 0;
  const char* end = text->data() + text->size();
  const auto [stop, error] = std::from_chars(text->data(), end, number);
  if (error == std::errc() && stop == end && number >= low && number <= high) return number;
  faults.add(spelling_of(option) + " '" + *text + "': expected a whole number from " + std::to_string(low) + " to " +
             std::to_string(high));
  return std::nullopt;
}

}  // namespace easel::cli
