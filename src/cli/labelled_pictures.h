// Pictures with labels, from class folders or a list.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace easel::cli {

struct LabelledPicture {
  std::filesystem::path file;
  std::string label;
  std::string name;  // of the file without its ending, alone with its label
  int width = 0, height = 0;
};

struct LabelledPictures {
  std::vector<LabelledPicture> pictures;  // by label and name
  std::vector<std::string> unreadable;    // a sentence each
  int64_t labels() const;
};

// FOLDER/LABEL/picture.png; with `list` the lines of a CSV file with the columns path and label, or JSON lines of both,
// paths from FOLDER. Pictures that cannot be read are among the unreadable. Throws Error(kFile) for a folder or list
// that cannot be read, with every fault of the list.
LabelledPictures labelled_pictures(const std::filesystem::path& folder,
                                   const std::optional<std::filesystem::path>& list);

}  // namespace easel::cli
