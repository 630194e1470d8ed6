// Text in columns.
#pragma once

#include <string>
#include <vector>

namespace easel::cli {

using Table = std::vector<std::vector<std::string>>;  // the first row: the titles

// One line a row, columns padded to their widest cell; the last is not padded.
std::string aligned(const Table& rows);

}  // namespace easel::cli
