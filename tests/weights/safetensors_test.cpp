// Files that are in order: what is read, where it lies in memory, and what is written.
#include <sys/mman.h>

#include "weights/files.h"

namespace easel {
namespace {

using namespace testing;
using namespace std::string_literals;

// The mapping of `file` that holds `address`, from /proc/self/maps.
bool is_inside_mapping(const void* address, const fs::path& file) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    std::uintptr_t begin = 0, end = 0;
    if (std::sscanf(line.c_str(), "%zx-%zx", &begin, &end) != 2 || !line.ends_with(file.string())) continue;
    const auto at = reinterpret_cast<std::uintptr_t>(address);
    if (begin <= at && at < end) return true;
  }
  return false;
}

TEST(Safetensors, EveryDtypeThereAndBack) {
  const Folder folder;
  Named tensors;
  for (const at::ScalarType type : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16, at::kLong, at::kInt, at::kShort,
                                    at::kChar, at::kByte, at::kBool, at::kUInt16, at::kUInt32, at::kUInt64})
    tensors.emplace_back(c10::toString(type), at::tensor({0, 1, 1, 0, 1}).to(type));
  tensors.emplace_back("complex", at::complex(at::tensor({1.f, 2.f}), at::tensor({3.f, 4.f})));
  tensors.emplace_back("scalar", at::scalar_tensor(2.5f));
  tensors.emplace_back("empty", at::empty({0, 3}));
  tensors.emplace_back("empty too", at::empty({2, 0, 5}, at::kHalf));
  tensors.emplace_back("not contiguous", at::arange(6).view({2, 3}).t());
  write_safetensors(folder / "file", tensors);

  const SourcePtr source = open_safetensors(folder / "file");
  EXPECT_EQ(source->names().size(), tensors.size());
  for (const auto& [name, want] : tensors) {
    const auto info = source->info(name);
    ASSERT_TRUE(info) << name;
    EXPECT_EQ(info->shape, want.sizes().vec()) << name;
    EXPECT_EQ(info->dtype, want.scalar_type()) << name;
    const Tensor got = source->load(name);
    EXPECT_EQ(got.scalar_type(), want.scalar_type()) << name;
    EXPECT_EQ(got.sizes(), want.sizes()) << name;
    const auto bytes = [](const Tensor& x) {
      return std::string(static_cast<const char*>(x.contiguous().data_ptr()), x.nbytes());
    };
    EXPECT_TRUE(want.numel() == 0 || bytes(got) == bytes(want)) << name;
  }
  EXPECT_FALSE(source->info("nothing"));
  EXPECT_FALSE(source->load("nothing", {1}).defined());
}

// The reference's writer and reader agree with ours: its bytes are in tests/data, and the same tensors in our bytes are
// its bytes again.
TEST(Safetensors, WritesWhatTheReferenceWrites) {
  const fs::path golden = fs::path(EASEL_TEST_DATA) / "golden/samplers.safetensors";
  const SourcePtr source = open_safetensors(golden);
  Named tensors;
  for (const std::string& name : source->names()) tensors.emplace_back(name, source->load(name));
  ASSERT_GT(tensors.size(), 10u);
  const Folder folder;
  write_safetensors(folder / "again", tensors);
  const SourcePtr again = open_safetensors(folder / "again");
  EXPECT_EQ(again->names(), source->names());
  for (const auto& [name, tensor] : tensors) EXPECT_EQ(again->info(name)->shape, tensor.sizes().vec()) << name;
  // The data, which begin on a multiple of 8, are in the reference's order: then their bytes are equal.
  const std::string ours = read_bytes(folder / "again"), theirs = read_bytes(golden);
  std::size_t size = 0;
  for (const auto& [name, tensor] : tensors) size += tensor.nbytes();
  EXPECT_EQ((ours.size() - size) % 8, 0u);
  EXPECT_TRUE(ours.substr(ours.size() - size) == theirs.substr(theirs.size() - size));
}

TEST(Safetensors, TensorsLieInTheMappingAndOutliveTheSource) {
  const Folder folder;
  const fs::path file = folder / "file";
  write_safetensors(file, {{"a", at::arange(1000, at::kFloat)}});
  Tensor a;
  {
    const SourcePtr source = open_safetensors(file);
    a = source->load("a");
    EXPECT_EQ(source->load("a").data_ptr(), a.data_ptr());
    EXPECT_EQ(source->files(), std::vector<fs::path>{file});
    EXPECT_EQ(source->describe(), file.string());
  }
  EXPECT_TRUE(is_inside_mapping(a.data_ptr(), file));
  EXPECT_TRUE(a.equal(at::arange(1000, at::kFloat)));
  const void* data = a.data_ptr();
  a.reset();
  EXPECT_FALSE(is_inside_mapping(data, file)) << "the mapping is leaked";
}

TEST(Safetensors, UnalignedDataAreCopied) {
  const Folder folder;
  const float values[] = {1.5f, -2.5f};
  const std::string data = "x" + std::string(reinterpret_cast<const char*>(values), sizeof values);
  std::string header = R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                       R"("f":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}})";
  for (int padding = 0; padding < 8; ++padding, header += ' ') {
    const fs::path file = folder.write("file", safetensors(header, data));
    const Tensor f = open_safetensors(file)->load("f");
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(f.data_ptr()) % alignof(float), 0u);
    EXPECT_EQ(is_inside_mapping(f.data_ptr(), file), (header.size() + 1) % alignof(float) == 0) << header.size();
    EXPECT_TRUE(f.equal(at::tensor({1.5f, -2.5f})));
    fs::remove(file);  // else the next one would be this file, changed under the mapping
  }
}

TEST(Safetensors, EightBitFloatsAreKnownButRefused) {
  const Folder folder;
  for (const std::string dtype : {"F8_E4M3", "F8_E5M2", "F8_E8M0"}) {
    const fs::path file = folder.write(
        dtype, safetensors(R"({"a":{"dtype":")" + dtype + R"(","shape":[4],"data_offsets":[0,4]}})", "1234"));
    const SourcePtr source = open_safetensors(file);
    EXPECT_EQ(source->info("a")->shape, Shape{4});
    expect_has(message([&] { source->load("a"); }),
               file.string() + ": tensor a is " + dtype + ", which is not supported");
    const Weights w(source, at::kCPU, at::kFloat);
    w.get("a", {4});
    expect_has(message([&] { w.finish("unet", none); }), "tensor a is stored as " + dtype + ", expected F32");
  }
}

TEST(Safetensors, HeadersTheReferenceAccepts) {
  const Folder folder;
  const std::string fine = R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  for (const std::string& header :
       {R"({"a":)" + fine + "}      ", R"(  {"a":)" + fine + "}", R"({"__metadata__":{},"a":)" + fine + "}",
        R"({"a":)" + fine + R"(,"__metadata__":{"format":"pt","":""}})",
        R"({"z":{"dtype":"F32","shape":[0,3],"data_offsets":[0,0]},"a":)" + fine +
            R"(,"y":{"dtype":"F32","shape":[0],"data_offsets":[4,4]}})"})
    EXPECT_TRUE(open_safetensors(folder.write("file", safetensors(header, "1234")))->info("a")) << header;
  EXPECT_TRUE(open_safetensors(folder.write("file", safetensors("{}")))->names().empty());
  const std::string unnamed = R"({"":)" + fine + R"(,"é \" 雪":{"dtype":"U8","shape":[1],"data_offsets":[4,5]}})";
  EXPECT_EQ(open_safetensors(folder.write("file", safetensors(unnamed, "12345")))->names(),
            (std::vector<std::string>{"", "é \" 雪"}));
}

TEST(Safetensors, DroppedPagesAreReadAgain) {
  const Folder folder;
  const int64_t page = ::sysconf(_SC_PAGESIZE);
  const Tensor want = at::arange(8 * page, at::kFloat);
  write_safetensors(folder / "file", {{"a", at::ones({3})}, {"b", want}, {"empty", at::empty({0})}});
  const SourcePtr source = open_safetensors(folder / "file");
  const Tensor b = source->load("b");
  ASSERT_TRUE(b.equal(want));
  const auto resident = [&] {  // of this process: the system's cache keeps them
    std::ifstream smaps("/proc/self/smaps");
    bool inside = false;
    int64_t kilobytes = 0;
    for (std::string line; std::getline(smaps, line);) {
      std::uintptr_t begin = 0, end = 0;
      if (std::sscanf(line.c_str(), "%zx-%zx ", &begin, &end) == 2 && line.find('-') < 20)
        inside = line.ends_with((folder / "file").string());
      if (inside && line.starts_with("Rss:")) kilobytes += std::stoll(line.substr(4));
    }
    return kilobytes * 1024;
  };
  EXPECT_GE(resident(), want.nbytes());
  source->drop_pages("b");
  EXPECT_LE(resident(), 4 * page);
  for (const char* name : {"a", "empty"}) source->drop_pages(name);  // smaller than a page: nothing to drop
  EXPECT_TRUE(b.equal(want));
}

TEST(WriteSafetensors, AppearsWholeOrNotAtAll) {
  const Folder folder;
  expect_has(message([&] {
               write_safetensors(folder / "none/file", {{"a", at::ones(1)}});
             }),
             "none/file: cannot be written: No such file or directory");
  expect_has(message([&] { write_safetensors("/dev/full/file", {{"a", at::ones(1)}}); }), "cannot be written");
  fs::create_directory(folder / "taken");
  expect_has(message([&] { write_safetensors(folder / "taken", {{"a", at::ones(1)}}); }), "Is a directory");
  EXPECT_THROW(write_safetensors(folder / "file", {{"a", at::ones(1)}, {"a", at::ones(1)}}), c10::Error);
  EXPECT_THROW(write_safetensors(folder / "file", {{"__metadata__", at::ones(1)}}), c10::Error);
  std::vector<std::string> left;
  for (const auto& entry : fs::directory_iterator(folder.path())) left.push_back(entry.path().filename());
  EXPECT_EQ(left, std::vector<std::string>{"taken"});

  write_safetensors(folder / "file", {{"a", at::ones(1)}});
  const Tensor old = open_safetensors(folder / "file")->load("a");
  write_safetensors(folder / "file", {{"a", at::zeros(100000)}});  // replaced by rename: the old mapping stays good
  EXPECT_EQ(old.item<float>(), 1);
  EXPECT_EQ(open_safetensors(folder / "file")->info("a")->shape, Shape{100000});
}

}  // namespace
}  // namespace easel
