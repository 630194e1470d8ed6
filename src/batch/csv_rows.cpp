#include "batch/csv_rows.h"

#include <optional>
#include <string_view>

#include "easel/text.h"

namespace easel {

namespace {

class RowParser {
 public:
  // One more line of the row; true when it ended in it.
  bool add(std::string_view line) {
    if (inside_) text_ += '\n';
    for (std::size_t i = 0; i <= line.size(); ++i) {
      if (inside_ && i == line.size()) return false;
      if (!inside_ && (i == line.size() || line[i] == ',')) {
        cells.push_back({std::move(text_), quoted_});
        text_.clear();
        quoted_ = false;
      } else if (inside_ && line[i] == '"' && line.substr(i).starts_with("\"\"")) {
        text_ += line[i++];
      } else if (line[i] == '"' && (inside_ || (text_.empty() && !quoted_))) {
        inside_ = !inside_;
        quoted_ = true;
      } else {
        if (line[i] == '"' && fault.empty())
          fault = "a double quote inside an unquoted cell; quote the cell, double the quote";
        if (!inside_ && quoted_ && fault.empty()) fault = "text after a cell's closing quote; double a quote inside it";
        text_ += line[i];
      }
    }
    return true;
  }
  bool is_inside() const { return inside_; }

  std::vector<CsvCell> cells;
  std::string fault;

 private:
  std::string text_;
  bool inside_ = false, quoted_ = false;
};

std::string fault_of_line(const LineReader& lines, std::string_view line, std::size_t longest) {
  if (lines.is_too_long()) return "longer than " + std::to_string(longest) + " bytes";
  if (line.find('\0') != std::string_view::npos) return "it holds a NUL byte, so it is no text";
  if (const auto at = invalid_utf8_at(line)) return "not valid UTF-8 at byte " + std::to_string(*at);
  return "";
}

}  // namespace

bool next_csv_row(LineReader& lines, std::size_t longest, CsvRow& row) {
  row = {};
  std::string line;
  do {
    if (!lines.next(line)) return false;
  } while (line.empty());
  row.line = lines.number();
  RowParser parser;
  std::size_t size = 0;
  do {
    size += line.size();
    row.fault = fault_of_line(lines, line, longest);
    if (row.fault.empty() && size > longest)
      row.fault = "the row does not end within " + std::to_string(longest) + " bytes";
    if (!row.fault.empty()) break;
    if (parser.add(line)) break;
    if (!lines.has_end()) break;
  } while (lines.next(line));
  if (row.fault.empty() && parser.is_inside())
    row.fault = "the file ends inside a quoted cell; a double quote is missing";
  if (row.fault.empty()) row.fault = parser.fault;
  row.cells = std::move(parser.cells);
  return true;
}

std::optional<std::vector<CsvCell>> csv_cells(std::string_view line, std::string& fault) {
  RowParser parser;
  if (!parser.add(line) || parser.is_inside()) fault = "a double quote is not closed";
  if (fault.empty()) fault = parser.fault;
  return fault.empty() ? std::optional(std::move(parser.cells)) : std::nullopt;
}

}  // namespace easel
