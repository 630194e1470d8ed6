#include "cli/labelled_pictures.h"

#include <algorithm>
#include <fstream>
#include <set>

#include "easel/batch.h"

namespace easel::cli {

namespace fs = std::filesystem;

namespace {

struct Entry {
  fs::path file;
  std::string label;
};

std::vector<Entry> entries_of_folders(const fs::path& folder) {
  std::vector<fs::path> classes;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (entry->is_directory()) classes.push_back(entry->path());
  }
  if (error) throw Error(ErrorKind::kFile, folder.string() + ": " + error.message());
  std::sort(classes.begin(), classes.end());
  std::vector<Entry> entries;
  for (const fs::path& one : classes) {
    Faults empty;  // a class without pictures has no variations
    for (const std::string& file : picture_files(one.string(), "", empty))
      entries.push_back({file, one.filename().string()});
  }
  return entries;
}

// The two cells of a line "path,label"; either may be in double quotes.
std::optional<std::vector<std::string>> cells_of(const std::string& line) {
  std::vector<std::string> cells(1);
  bool quoted = false;
  for (std::size_t at = 0; at < line.size(); ++at) {
    const char c = line[at];
    if (c == '"' && quoted && at + 1 < line.size() && line[at + 1] == '"')
      cells.back() += line[at++];
    else if (c == '"')
      quoted = !quoted;
    else if (c == ',' && !quoted)
      cells.emplace_back();
    else
      cells.back() += c;
  }
  return quoted ? std::nullopt : std::optional(cells);
}

class ListReader {
 public:
  explicit ListReader(const fs::path& folder) : folder_(folder) {}

  void read(const std::string& line, const std::string& place) {
    if (line.starts_with("{")) return json_line(line, place);
    const auto cells = cells_of(line);
    if (!cells) return faults.add(place + "a double quote is not closed");
    if (columns_.empty()) return header(*cells, place);
    if (cells->size() != columns_.size())
      return faults.add(place + std::to_string(cells->size()) + " cells: expected " + std::to_string(columns_.size()));
    const auto cell = [&](const char* name) {
      return (*cells)[static_cast<std::size_t>(std::find(columns_.begin(), columns_.end(), name) - columns_.begin())];
    };
    add(cell("path"), cell("label"), place);
  }

  std::vector<Entry> entries;
  Faults faults;

 private:
  void header(const std::vector<std::string>& cells, const std::string& place) {
    for (const char* name : {"path", "label"}) {
      if (std::find(cells.begin(), cells.end(), name) == cells.end())
        faults.add(place + "the first line names the columns, and none is " + name);
    }
    columns_ = cells;
    faults.raise_if_any(ErrorKind::kFile);
  }
  void json_line(const std::string& line, const std::string& place) {
    const json object = json::parse(line, nullptr, /*allow_exceptions=*/false);
    const bool good = object.is_object() && object.contains("path") && object.at("path").is_string() &&
                      object.contains("label") && object.at("label").is_string();
    if (!good) return faults.add(place + "expected an object with the texts \"path\" and \"label\"");
    add(object.at("path"), object.at("label"), place);
  }
  void add(const std::string& path, const std::string& label, const std::string& place) {
    if (path.empty() || label.empty())
      return faults.add(place + (path.empty() ? "the path" : "the label") + " is empty");
    entries.push_back({folder_ / path, label});
  }

  const fs::path folder_;
  std::vector<std::string> columns_;
};

std::vector<Entry> entries_of_list(const fs::path& folder, const fs::path& list) {
  std::ifstream in(list);
  if (!in) throw Error(ErrorKind::kFile, list.string() + ": it cannot be opened");
  ListReader reader(folder);
  int64_t number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (line.ends_with('\r')) line.pop_back();
    const std::string place = list.string() + ":" + std::to_string(number) + ": ";
    if (const auto at = invalid_utf8_at(line)) {
      reader.faults.add(place + "not valid UTF-8 at byte " + std::to_string(*at));
    } else if (!line.empty()) {
      reader.read(line, place);
    }
  }
  reader.faults.raise_if_any(ErrorKind::kFile);
  return std::move(reader.entries);
}

}  // namespace

int64_t LabelledPictures::labels() const {
  std::set<std::string> all;
  for (const LabelledPicture& picture : pictures) all.insert(picture.label);
  return static_cast<int64_t>(all.size());
}

LabelledPictures labelled_pictures(const fs::path& folder, const std::optional<fs::path>& list) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) throw Error(ErrorKind::kFile, folder.string() + " is not a folder");
  LabelledPictures found;
  std::set<std::string> taken;
  for (const Entry& entry : list ? entries_of_list(folder, *list) : entries_of_folders(folder)) {
    // A label is a folder's name: of a list it may be anything.
    LabelledPicture picture{entry.file, entry.label, slug(entry.file.stem().string(), 100)};
    std::replace(picture.label.begin(), picture.label.end(), '/', '-');
    if (picture.label == "." || picture.label == "..") picture.label = "-";
    const std::string name = picture.name;
    for (int more = 2; !taken.insert(picture.label + "/" + picture.name).second; ++more)
      picture.name = name + "-" + std::to_string(more);
    try {
      read_picture(picture.file);  // all of it: a picture that ends too early has a good header
      std::tie(picture.width, picture.height) = picture_size(picture.file);
      found.pictures.push_back(std::move(picture));
    } catch (const Error& fault) {
      if (fault.kind() != ErrorKind::kFile) throw;
      found.unreadable.emplace_back(fault.what());
    }
  }
  return found;
}

}  // namespace easel::cli
