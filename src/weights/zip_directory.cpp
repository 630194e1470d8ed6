// APPNOTE.TXT 6.3: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT. Section numbers are its.
#include "weights/zip_directory.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "easel/core.h"
#include "weights/safetensors_header.h"

namespace easel {

namespace {

constexpr std::string_view kLocal = "PK\x03\x04", kCentral = "PK\x01\x02", kEnd = "PK\x05\x06", kEnd64 = "PK\x06\x06",
                           kLocator64 = "PK\x06\x07";
constexpr std::size_t kLocalBytes = 30, kCentralBytes = 46, kEndBytes = 22, kEnd64Bytes = 56, kLocator64Bytes = 20;
constexpr uint32_t kFull32 = 0xFFFFFFFF;  // "see the zip64 record"
constexpr uint16_t kFull16 = 0xFFFF;
constexpr uint16_t kZip64Extra = 0x0001;
constexpr uint16_t kEncrypted = 0x2041, kSizesFollow = 0x0008;  // flags, 4.4.4
constexpr uint64_t kMaxEntries = 200'000;
constexpr std::size_t kMaxName = 1000;

template <class Number>
Number number(std::string_view record, std::size_t at) {
  Number value;
  std::memcpy(&value, record.substr(at, sizeof value).data(), sizeof value);
  return value;
}

// A name that means the same file to every reader, whatever it does with it.
bool is_plain_path(std::string_view name) {
  if (name.empty() || name.size() > kMaxName) return false;
  if (std::any_of(name.begin(), name.end(), [](char c) { return (c >= 0 && c < ' ') || c == '\\' || c == 0x7F; }))
    return false;
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('/', begin), name.size());
    const std::string_view part = name.substr(begin, end - begin);
    if (part.empty() || part == "." || part == "..") return false;
    begin = end + 1;
  }
  return true;
}

class Zip {
 public:
  Zip(std::string_view bytes, const std::string& where) : bytes_(bytes), where_(where) {}

  std::vector<ZipEntry> entries();

 private:
  struct Directory {
    uint64_t count, size, offset, end;
  };
  struct Header {  // of the directory
    ZipEntry entry;
    uint64_t offset, stored, size;  // of the data in the file, and inflated
    uint16_t flags;
    std::size_t bytes;
  };

  [[noreturn]] void fail(const std::string& fault) const {
    throw Error(ErrorKind::kFile, where_ + ": " + fault, kDamagedFile);
  }
  [[noreturn]] void fail(std::string_view name, const std::string& fault) const {
    fail("entry " + shown_name(std::string(name)) + ": " + fault);
  }
  std::string_view part(std::string_view whole, uint64_t offset, uint64_t size, const char* what) const;
  Directory directory() const;
  Directory directory64(const Directory& classic) const;
  Header central(std::string_view rest) const;
  void read_zip64(std::string_view extra, Header& header) const;
  void locate(Header& header, uint64_t limit) const;
  void check_overlap(std::vector<Header>& headers) const;

  std::string_view bytes_;
  const std::string& where_;
};

std::string_view Zip::part(std::string_view whole, uint64_t offset, uint64_t size, const char* what) const {
  if (offset > whole.size() || size > whole.size() - offset)
    fail(std::string(what) + " of " + std::to_string(size) + " bytes at byte " + std::to_string(offset) +
         " ends beyond its " + std::to_string(whole.size()) + " bytes");
  return whole.substr(offset, size);
}

// 4.3.16. The record ends the file: torch writes no comment, in which a second directory could hide.
Zip::Directory Zip::directory() const {
  const std::string_view end =
      bytes_.size() < kEndBytes ? std::string_view() : bytes_.substr(bytes_.size() - kEndBytes);
  if (!end.starts_with(kEnd) || number<uint16_t>(end, 20) != 0) fail("no zip directory at the file's end");
  const Directory classic = {number<uint16_t>(end, 10), number<uint32_t>(end, 12), number<uint32_t>(end, 16),
                             bytes_.size() - kEndBytes};
  if (number<uint16_t>(end, 4) != 0 || number<uint16_t>(end, 6) != 0 || number<uint16_t>(end, 8) != classic.count)
    fail("zip of several volumes");
  const bool has64 =
      classic.end >= kLocator64Bytes && bytes_.substr(classic.end - kLocator64Bytes).starts_with(kLocator64);
  const Directory found = has64 ? directory64(classic) : classic;
  if (found.size > found.end || found.offset != found.end - found.size) {
    fail("the zip directory of " + std::to_string(found.size) + " bytes at byte " + std::to_string(found.offset) +
         " does not end at byte " + std::to_string(found.end));
  }
  if (found.count > kMaxEntries) fail("more than " + std::to_string(kMaxEntries) + " zip entries");
  return found;
}

// 4.3.14, 4.3.15.
Zip::Directory Zip::directory64(const Directory& classic) const {
  const std::size_t locator_at = classic.end - kLocator64Bytes;
  const std::string_view locator = bytes_.substr(locator_at, kLocator64Bytes);
  const auto offset = number<uint64_t>(locator, 8);
  const std::string_view record = part(bytes_.substr(0, locator_at), offset, kEnd64Bytes, "zip64 record");
  const bool whole = record.starts_with(kEnd64) && number<uint64_t>(record, 4) == kEnd64Bytes - 12 &&
                     offset + kEnd64Bytes == locator_at;
  if (!whole) fail("the zip64 record is not where its locator says");
  const Directory found = {number<uint64_t>(record, 32), number<uint64_t>(record, 40), number<uint64_t>(record, 48),
                           offset};
  const bool one_volume = number<uint32_t>(locator, 4) == 0 && number<uint32_t>(locator, 16) == 1 &&
                          number<uint32_t>(record, 16) == 0 && number<uint32_t>(record, 20) == 0 &&
                          number<uint64_t>(record, 24) == found.count;
  if (!one_volume) fail("zip of several volumes");
  const auto agrees = [](uint64_t small, uint64_t full, uint64_t large) { return small == full || small == large; };
  if (!agrees(classic.count, kFull16, found.count) || !agrees(classic.size, kFull32, found.size) ||
      !agrees(classic.offset, kFull32, found.offset))
    fail("the zip and zip64 directories differ");
  return found;
}

// 4.3.12.
Zip::Header Zip::central(std::string_view rest) const {
  const std::string_view record = part(rest, 0, kCentralBytes, "zip directory entry");
  if (!record.starts_with(kCentral)) fail("the zip directory is broken");
  const std::size_t name = number<uint16_t>(record, 28), extra = number<uint16_t>(record, 30),
                    comment = number<uint16_t>(record, 32);
  Header header = {};
  header.bytes = kCentralBytes + name + extra + comment;
  header.entry.name = part(rest, kCentralBytes, name, "zip entry's name");
  if (!is_plain_path(header.entry.name)) fail(header.entry.name, "not a plain relative path");
  header.flags = number<uint16_t>(record, 8);
  if ((header.flags & kEncrypted) != 0) fail(header.entry.name, "encrypted");
  header.stored = number<uint32_t>(record, 20);
  header.size = number<uint32_t>(record, 24);
  header.offset = number<uint32_t>(record, 42);
  read_zip64(part(rest, kCentralBytes + name, extra, "zip entry's extra field"), header);
  header.entry.method = number<uint16_t>(record, 10);
  if (header.entry.method == 0 && header.stored != header.size) fail(header.entry.name, "stored, but of two sizes");
  return header;
}

// 4.5.3: the fields that are full in the directory's entry, in this order.
void Zip::read_zip64(std::string_view extra, Header& header) const {
  for (std::size_t at = 0; extra.size() - at >= 4;) {
    const std::string_view field = part(extra, at + 4, number<uint16_t>(extra, at + 2), "zip entry's extra field");
    if (number<uint16_t>(extra, at) == kZip64Extra) {
      std::size_t next = 0;
      for (uint64_t* value : {&header.size, &header.stored, &header.offset}) {
        if (*value != kFull32) continue;
        *value = number<uint64_t>(part(field, next, 8, "zip64 field"), 0);
        next += 8;
      }
      return;
    }
    at += 4 + field.size();
  }
}

// Sets the entry's data by the local header (4.3.7), which must say what the directory says.
void Zip::locate(Header& header, uint64_t limit) const {
  const std::string_view name = header.entry.name;
  if (header.offset > limit || limit - header.offset < kLocalBytes) fail(name, "begins beyond the file's entries");
  const std::string_view rest = bytes_.substr(header.offset, limit - header.offset);
  const auto stored = number<uint32_t>(rest, 18), size = number<uint32_t>(rest, 22);
  const bool later = (header.flags & kSizesFollow) != 0;
  const auto agrees = [&](uint64_t local, uint64_t value) {
    return local == value || local == kFull32 || (later && local == 0);
  };
  const bool same = rest.starts_with(kLocal) && number<uint16_t>(rest, 6) == header.flags &&
                    number<uint16_t>(rest, 8) == header.entry.method && agrees(stored, header.stored) &&
                    agrees(size, header.size) && rest.substr(kLocalBytes, number<uint16_t>(rest, 26)) == name;
  if (!same) fail(name, "its local header and the directory differ");
  const uint64_t begin = kLocalBytes + name.size() + number<uint16_t>(rest, 28);
  if (begin > rest.size() || header.stored > rest.size() - begin) {
    fail(name, std::to_string(header.stored) + " bytes at byte " + std::to_string(header.offset + begin) +
                   " end beyond the file's entries");
  }
  header.entry.data = rest.substr(begin, header.stored);
}

void Zip::check_overlap(std::vector<Header>& headers) const {
  std::sort(headers.begin(), headers.end(), [](const Header& a, const Header& b) { return a.offset < b.offset; });
  for (std::size_t i = 1; i < headers.size(); ++i) {
    const std::string_view before = headers[i - 1].entry.data;
    if (before.data() + before.size() > bytes_.data() + headers[i].offset)
      fail(headers[i].entry.name, "overlaps entry " + shown_name(std::string(headers[i - 1].entry.name)));
  }
}

std::vector<ZipEntry> Zip::entries() {
  const Directory directory = this->directory();
  std::string_view rest = bytes_.substr(directory.offset, directory.size);
  std::vector<Header> headers;
  std::vector<ZipEntry> entries;
  std::set<std::string_view> names;
  for (uint64_t i = 0; i < directory.count; ++i) {
    Header header = central(rest);
    part(rest, 0, header.bytes, "zip directory entry");
    rest.remove_prefix(header.bytes);
    locate(header, directory.offset);
    if (!names.insert(header.entry.name).second) fail(header.entry.name, "the name is given twice");
    entries.push_back(header.entry);
    headers.push_back(header);
  }
  if (!rest.empty()) fail("the zip directory holds more than its " + std::to_string(directory.count) + " entries");
  check_overlap(headers);
  return entries;
}

}  // namespace

std::vector<ZipEntry> read_zip(std::string_view bytes, const std::string& where) { return Zip(bytes, where).entries(); }

}  // namespace easel
