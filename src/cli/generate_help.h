// What `easel --help` says around the options.
#pragma once

#include <CLI/CLI.hpp>

#include "easel/pipeline.h"

namespace easel::cli {

inline constexpr const char* kDescription = "Draws pictures from text with Stable Diffusion models.";

inline constexpr const char* kPromptGroup = "What to draw";
inline constexpr const char* kPictureGroup = "The picture";
inline constexpr const char* kInputGroup = "A picture to begin with";
inline constexpr const char* kControlGroup = "Pictures that guide (ControlNet)";
inline constexpr const char* kLargeGroup = "Large pictures";
inline constexpr const char* kBatchGroup = "Many pictures";
inline constexpr const char* kCheckGroup = "Checks";
inline constexpr const char* kSdxlGroup = "What Stable Diffusion XL is told of the picture";
inline constexpr const char* kModelGroup = "The model and the machine";
inline constexpr const char* kOutputGroup = "Where it goes";
inline constexpr const char* kMessageGroup = "Messages";

const char* group_of(const RequestField& field);

std::shared_ptr<CLI::Formatter> help_formatter();
std::string help_footer();

}  // namespace easel::cli
