#include "cli/generate_help.h"

#include <algorithm>
#include <sstream>

#include "cli/commands.h"

namespace easel::cli {

namespace {

constexpr std::size_t kHelpColumn = 26;
constexpr std::size_t kColumns = 100;

// Words of `text` in lines of at most `width`.
std::vector<std::string> wrapped(const std::string& text, std::size_t width) {
  std::vector<std::string> lines(1);
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    if (!lines.back().empty() && lines.back().size() + 1 + word.size() > width) lines.emplace_back();
    lines.back() += (lines.back().empty() ? "" : " ") + word;
  }
  return lines;
}

// "-m, --model, --ckpt PATH".
std::string title_of(const CLI::Option& option) {
  std::string title;
  for (const std::string& name : option.get_snames()) title += (title.empty() ? "-" : ", -") + name;
  for (const std::string& name : option.get_lnames()) title += (title.empty() ? "--" : ", --") + name;
  const std::string value = option.get_items_expected_max() > 0 ? option.get_type_name() : "";
  return value.empty() ? title : title + " " + value;
}

class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_usage(const CLI::App*, std::string) const override {
    return "Usage: easel [generate] [options] PROMPT...\n\n";
  }

  std::string make_group(std::string group, bool is_positional,
                         std::vector<const CLI::Option*> options) const override {
    std::string text = group + ":\n";
    for (const CLI::Option* option : options) text += make_option(option, is_positional);
    return text;
  }

  std::string make_option(const CLI::Option* option, bool) const override {
    const std::string title = "  " + title_of(*option);
    std::string text = title;
    std::size_t column = title.size();
    for (const std::string& line : wrapped(option->get_description(), kColumns - kHelpColumn)) {
      if (column + 2 > kHelpColumn) {
        text += "\n";
        column = 0;
      }
      text += std::string(kHelpColumn - column, ' ') + line;
      column = kHelpColumn + line.size();
    }
    return text + "\n";
  }
};

}  // namespace

const char* group_of(const RequestField& field) {
  const std::string& name = field.name;
  const auto is_one_of = [&](std::initializer_list<const char*> names) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  if (name.find("prompt") != std::string::npos || name == "embd_dir") return kPromptGroup;
  if (is_one_of({"model", "vae", "refiner", "refiner_start", "lora", "lora_dir", "lora_apply", "lora_partial", "device",
                 "dtype"}))
    return kModelGroup;
  if (is_one_of({"original_size", "crop", "target_size", "aesthetic_score", "negative_aesthetic_score"}))
    return kSdxlGroup;
  if (is_one_of({"init_img", "strength", "resize", "mask", "invert_mask", "mask_blur", "inpaint_full_res",
                 "inpaint_padding", "no_paste_back", "outpaint"}))
    return kInputGroup;
  if (name.starts_with("control_") || name.starts_with("canny")) return kControlGroup;
  if (name.starts_with("hires") || name.starts_with("vae_tiling")) return kLargeGroup;
  return kPictureGroup;
}

std::shared_ptr<CLI::Formatter> help_formatter() { return std::make_shared<HelpFormatter>(); }

std::string help_footer() {
  std::string text = "Commands (a prompt that is one of these words goes through -p):\n";
  for (const Command& command : command_table()) {
    const std::string name = std::string("  easel ") + command.name;
    text += name + std::string(kHelpColumn - name.size(), ' ') + command.summary + "\n";
  }
  return text + R"(
Examples:
  easel "a photo of an astronaut riding a horse on mars" -o astronaut.png
  easel "a red fox" "a snow owl" -n "blurry" -b 4 -s 42 --outdir animals
  easel "a castle" -i sketch.png --strength 0.6
  easel "a red ball" -i photo.jpg --mask ball.png      easel "hills" -i photo.jpg --outpaint 0,0,50%,0
  easel -m sd15.safetensors --sampler "Euler a" --steps 30 -W 640 -H 448 "a lighthouse"
  fortune | easel -p - -o "{seed}-{prompt:30}.png"
  easel "a tree" -o - | display

{index} in a name counts from 00000, or goes on where the folder's numbered pictures end without -o.
{prompt:40} is the prompt as a file name, of at most 40 characters.
Exit codes: 0 done, 1 internal error, 2 wrong usage, 3 a file cannot be read or written, 4 out of memory,
5 a picture failed, 6 a picture is not the expected one, 130 and 143 interrupted.)";
}

}  // namespace easel::cli
