// Zip files and streams that lie: refused with the entry or the storage.
#include "weights/torch_files.h"

namespace easel {
namespace {

using namespace testing;

const std::string kGood = holding(tensor());

// The good checkpoint with a third entry.
std::vector<Entry> with(Entry third) {
  std::vector<Entry> entries = checkpoint(kGood);
  entries.push_back(std::move(third));
  return entries;
}

std::vector<Entry> changed(const std::function<void(Entry& data)>& change) {
  std::vector<Entry> entries = checkpoint(kGood);
  change(entries[1]);
  return entries;
}

Zip good_zip() {
  Zip file;
  for (const Entry& entry : checkpoint(kGood)) file.add(entry);
  return file;
}

std::string record64(const Zip& file, uint64_t count, uint64_t size, uint64_t offset, uint64_t at) {
  return "PK\x06\x06" + little<uint64_t>(44) + little<uint32_t>(0) + little<uint64_t>(0) + little(count) +
         little(count) + little(size) + little(offset) + "PK\x06\x07" + little<uint32_t>(0) + little(at) +
         little<uint32_t>(1) + file.end(0xFFFFFFFF, 0xFFFFFFFF);
}

std::vector<Hostile> ends() {
  const Zip file = good_zip();
  const std::string good = file.bytes(), body = file.entries + file.directory;
  const uint64_t size = file.directory.size(), offset = file.entries.size();
  std::string two_volumes = good, comment = good, fewer = good, more = good;
  two_volumes[good.size() - 18] = 1;
  comment[good.size() - 2] = 3;
  fewer[good.size() - 14] = fewer[good.size() - 12] = 1;
  more[good.size() - 14] = more[good.size() - 12] = 3;
  return {
      {"cut", good.substr(0, good.size() - 1), "no zip directory at the file's end"},
      {"four bytes", "PK\x03\x04", "no zip directory at the file's end"},
      {"bytes behind", good + "x", "no zip directory at the file's end"},
      {"comment", comment + "abc", "no zip directory at the file's end"},
      {"two volumes", two_volumes, "zip of several volumes"},
      {"bytes in front", "PK\x03\x04" + good, "does not end at byte"},
      {"bytes before the end", body + "x" + file.end(), "does not end at byte"},
      {"directory of 4 GB", body + file.end(0xFFFFFFFF, 0), "does not end at byte"},
      {"one entry too few", fewer, "the zip directory holds more than its 1 entries"},
      {"one entry too many", more, "zip directory entry of 46 bytes at byte 0 ends beyond its 0 bytes"},
      {"zip64 elsewhere", body + record64(file, 2, size, offset, 0), "the zip64 record is not where its locator says"},
      {"zip64 beyond the file", body + record64(file, 2, size, offset, ~0ULL), "zip64 record of 56 bytes at byte"},
      {"zip64 says otherwise", body + record64(file, 3, size, offset, body.size()),
       "the zip and zip64 directories differ"},
      {"zip64 directory elsewhere", body + record64(file, 2, size, ~0ULL, body.size()), "does not end at byte"},
  };
}

std::vector<Hostile> entries() {
  const auto named = [](const std::string& name) { return zip(with({.name = name, .data = "x"})); };
  const auto wrong = [](const std::function<void(Entry&)>& change) { return zip(changed(change)); };
  const std::string path = "not a plain relative path", differ = "its local header and the directory differ",
                    compressed = "entry archive/data/0: compressed (method 8), which torch.save does not do";
  const std::string short_extra = little<uint16_t>(1) + little<uint16_t>(100);
  return {
      {"parent folder", named("archive/../../etc/passwd"), "entry archive/../../etc/passwd: " + path},
      {"absolute", named("/etc/passwd"), path},
      {"this folder", named("archive/./x"), path},
      {"empty part", named("archive//x"), path},
      {"folder", named("archive/data/"), path},
      {"backslash", named("archive\\x"), path},
      {"NUL", named("archive/x\0y"s), path},
      {"terminal codes", named("archive/\x1b[2J"), R"(entry "archive/\u001b[2J": )" + path},
      {"no name", named(""), path},
      {"name of 2,000", named("archive/" + std::string(2000, 'x')), path},
      {"name twice", named("archive/data/0"), "entry archive/data/0: the name is given twice"},
      {"pickle twice", zip(with({.name = "archive/data.pkl", .data = kGood})), "the name is given twice"},
      {"other folder", named("other/x"), "entry other/x is not in the folder of the first entry"},
      {"no folder", named("x"), "entry x is not in the folder of the first entry"},
      {"deflated", wrong([](Entry& e) { e.method = 8; }), compressed},
      {"bomb", wrong([](Entry& e) { e.method = 8, e.flags = 8, e.size = 0xFFFFFFFE, e.local_size = 0; }), compressed},
      {"stored, of two sizes", wrong([](Entry& e) { e.stored = 4; }), "stored, but of two sizes"},
      {"method of the future", wrong([](Entry& e) { e.method = 93; }), "compressed (method 93)"},
      {"encrypted", wrong([](Entry& e) { e.flags = 1; }), "entry archive/data/0: encrypted"},
      {"hidden headers", wrong([](Entry& e) { e.flags = 0x2000; }), "encrypted"},
      {"beyond the end", wrong([](Entry& e) { e.size = e.stored = e.local_size = 1000; }), "1000 bytes at byte"},
      {"far beyond", wrong([](Entry& e) { e.size = e.stored = e.local_size = 0xFFFFFFFE; }),
       "end beyond the file's entries"},
      {"begins beyond", wrong([](Entry& e) { e.local_offset = 0x7FFFFFFF; }), "begins beyond the file's entries"},
      {"begins elsewhere", wrong([](Entry& e) { e.local_offset = 1; }), differ},
      {"other local name", wrong([](Entry& e) { e.local_name = "archive/data/1"; }), differ},
      {"other local size", wrong([](Entry& e) { e.local_size = 4; }), differ},
      {"overlap", zip(with({.name = "archive/data/0x", .data = "", .local_offset = 0})), differ},
      {"zip64 field cut", wrong([&](Entry& e) { e.extra = short_extra; }), "zip entry's extra field of 100 bytes"},
      {"zip64 size of 2^64 - 1", wrong([](Entry& e) {
         e.size = e.stored = 0xFFFFFFFF;
         e.extra = little<uint16_t>(1) + little<uint16_t>(16) + little(~0ULL) + little(~0ULL);
       }),
       differ},
      {"zip64 offset of 2^64 - 1", wrong([](Entry& e) {
         e.local_offset = 0xFFFFFFFF;
         e.extra = little<uint16_t>(1) + little<uint16_t>(8) + little(~0ULL);
       }),
       "begins beyond the file's entries"},
  };
}

// Two entries of the same bytes, each with a local header: the second begins inside the first's data.
std::string overlapping() {
  Entry inner = {.name = "archive/data/1", .data = kOneTwo};
  Entry outer = {.name = "archive/data/0", .data = local_header(inner) + inner.data};
  Zip file;
  file.add({.name = "archive/data.pkl", .data = kGood});
  inner.local_offset = static_cast<uint32_t>(file.entries.size() + local_header(outer).size());
  file.add(outer);
  file.directory += directory_entry(inner, 0);
  ++file.count;
  return file.bytes();
}

std::vector<Hostile> archives() {
  const auto other = [](const std::string& key, int64_t count) {
    return zip(checkpoint(holding(tensor({.key = key, .count = count}))));
  };
  return {
      {"overlap", overlapping(), "entry archive/data/1: overlaps entry archive/data/0"},
      {"no pickle", zip({{.name = "archive/data/0", .data = kOneTwo}}), "a zip without data.pkl"},
      {"only other files", zip({{.name = "word/document.xml", .data = "x"}}), "a zip without data.pkl"},
      {"TorchScript", zip(with({.name = "archive/constants.pkl", .data = "x"})), "a TorchScript program"},
      {"big-endian", zip(with({.name = "archive/byteorder", .data = "big"})), "byteorder is big, expected little"},
      {"byteorder", zip(with({.name = "archive/byteorder", .data = "\x1b"})), R"(byteorder is "\u001b")"},
      {"no storage", other("1", 2), "storage 1 has no entry in the file"},
      {"storage elsewhere", other("../data.pkl", 2), "storage ../data.pkl has no entry in the file"},
      {"storage past its entry", other("0", 3), "entry archive/data/0 has 8 bytes, its storage 12"},
      {"storage too small", zip(checkpoint(kGood, "1234")), "entry archive/data/0 has 4 bytes, its storage 8"},
      {"storage too large", zip(checkpoint(kGood, kOneTwo + "x")), "entry archive/data/0 has 9 bytes, its storage 8"},
  };
}

std::vector<Hostile> streams() {
  const std::string key = list(text("0")), count = little<int64_t>(2);
  const std::string two_sizes = kProto + dict(text("a") + tensor() + text("b") + tensor({.count = 3})) + kStop;
  return {
      {"empty", "", "neither a zip file nor a pickle"},
      {"text", "hello", "neither a zip file nor a pickle"},
      {"a dict, not of torch.save", holding(number(1)), "it begins with a dict, not with torch's magic number"},
      {"other magic number", kProto + "\x8a\x0a" + "0123456789.", "not with torch's magic number"},
      {"other version", kMagic + kProto + "M\xe8\x03.", "expected format 1001"},
      {"version that is text", kMagic + kProto + text("1001") + ".", "expected format 1001"},
      {"big-endian", preamble(kFalse), "written by a big-endian machine"},
      {"no byte order", kMagic + kProto + "M\xe9\x03." + kProto + "}.", "written by a big-endian machine"},
      {"byte order that is text", preamble(text("yes")), "written by a big-endian machine"},
      {"keys that are a dict", stream(kGood, "}"), "expected a list of storage keys, got a dict"},
      {"key that is a number", stream(kGood, list(number(0))), "expected text as a storage key, got a whole number"},
      {"key twice", stream(kGood, list(text("0") + text("0"))), "storage 0 belongs to no tensor, or comes twice"},
      {"unknown key", stream(kGood, list(text("1"))), "storage 1 belongs to no tensor"},
      {"no key", stream(kGood, "]"), "storage 0 has no data"},
      {"no count", stream(kGood, key, "1234"), "ends before storage 0"},
      {"other count", stream(kGood, key, little<int64_t>(3) + kOneTwo), "storage 0 has 3 elements, its tensors say 2"},
      {"count of -1", stream(kGood, key, little<int64_t>(-1) + kOneTwo), "its tensors say 2"},
      {"past the end", stream(kGood, key, count + "1234567"), "ends inside storage 0"},
      {"far past the end", stream(holding(tensor({.count = 1LL << 60})), key, little<int64_t>(1LL << 60)),
       "ends inside storage 0"},
      {"bytes behind", stream(kGood, key, count + kOneTwo + "x"), "1 bytes at the file's end belong to no storage"},
      {"two sizes", stream(two_sizes), "storage 0 is given two sizes"},
  };
}

class HostileContainers : public ::testing::TestWithParam<std::vector<Hostile> (*)()> {};

TEST_P(HostileContainers, AreRefusedByName) {
  const Folder folder;
  for (const Hostile& row : GetParam()()) {
    SCOPED_TRACE(row.name);
    const fs::path file = folder.write("model.ckpt", row.bytes);
    const std::string said = message([&] { open_torch_file(file); });
    expect_has(said, row.message);
    EXPECT_TRUE(said.starts_with(file.string() + ": ")) << said;
    EXPECT_LT(said.size(), 1500u) << "a message repeats the file";
  }
}

INSTANTIATE_TEST_SUITE_P(Torch, HostileContainers, ::testing::Values(ends, entries, archives, streams));

// The rows above differ from files that are read in one thing alone.
TEST(HostileContainers, TheirHarmlessTwinsAreRead) {
  const Folder folder;
  const Zip file = good_zip();
  const std::string body = file.entries + file.directory;
  for (const std::string& bytes :
       {file.bytes(), body + record64(file, 2, file.directory.size(), file.entries.size(), body.size()),
        zip(with({.name = "archive/x", .data = "x"})), zip(changed([](Entry& e) { e.flags = 8, e.local_size = 0; })),
        zip(with({.name = "archive/byteorder", .data = "little"})), stream(kGood)})
    EXPECT_EQ(open_torch_file(folder.write("file", bytes))->load("a").sum().item<float>(), 3);
}

}  // namespace
}  // namespace easel
