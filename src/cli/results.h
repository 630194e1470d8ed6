// Standard output carries results and nothing else.
#pragma once

#include <string_view>

namespace easel::cli {

// Opens what stands for standard input, output and error where the caller closed them: otherwise the next file opened
// would get their numbers, and results would be written into it.
void claim_standard_descriptors();

// Writes all of the text at once. Throws Error(kFile) when standard output is closed or full.
void print_text(std::string_view text);
// The text as a line.
void print_line(std::string_view text);

}  // namespace easel::cli
