// RFC 4180, to the letter: quotes only around whole cells, doubled inside; line breaks inside quotes.
#pragma once

#include <vector>

#include "batch/line_reader.h"

namespace easel {

struct CsvCell {
  std::string text;
  bool is_quoted = false;
};

struct CsvRow {
  int64_t line = 0;  // its first
  std::vector<CsvCell> cells;
  std::string fault;  // the row is no row: what it is
};

// The next row that is not a blank line; false at the end. A row ends with a line even where its quotes do not, once it
// is longer than `longest`. CR LF in a cell becomes LF.
bool next_csv_row(LineReader& lines, std::size_t longest, CsvRow& row);

// The cells of one line: --sweep's values. Unset with a fault.
std::optional<std::vector<CsvCell>> csv_cells(std::string_view line, std::string& fault);

}  // namespace easel
