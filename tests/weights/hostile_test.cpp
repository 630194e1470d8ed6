// Broken and hostile safetensors files: an Error(kFile) that names the file, the tensor and the fault.
#include "weights/files.h"
#include "weights/safetensors_header.h"

namespace easel {
namespace {

using namespace testing;
using namespace std::string_literals;

struct Hostile {
  std::string name;     // of the test's row
  std::string bytes;    // of the file
  std::string message;  // part of what is said
};

std::string tensor(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}
const std::string kFine = tensor("F32", "[1]", "[0,4]");
const std::string k4 = "1234", k8 = "12345678", k12 = "123456789012";

std::string with_length(uint64_t length) {
  std::string bytes = safetensors("{}");
  std::memcpy(bytes.data(), &length, sizeof length);
  return bytes;
}

std::vector<Hostile> framing() {
  return {
      {"empty file", "", "expected 8 bytes of header length, the file has 0"},
      {"seven bytes", "1234567", "expected 8 bytes of header length, the file has 7"},
      {"length beyond the file", with_length(3), "header length 3 is beyond the file's end (2 bytes follow)"},
      {"length of 2^64 - 1", with_length(~0ULL), "above the format's limit of 100 MB"},
      {"length of 2^63", with_length(1ULL << 63), "above the format's limit of 100 MB"},
      {"length of 100 MB and one", with_length(100'000'001), "above the format's limit of 100 MB"},
      {"length of 100 MB", with_length(100'000'000), "is beyond the file's end"},
      {"git-lfs pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"},
      {"zip", "PK\x03\x04"s + std::string(60, '\0'), "a PyTorch checkpoint (zip)"},
      {"web page", "<!DOCTYPE html><html><body>404</body></html>", "a web page"},
  };
}

std::vector<Hostile> json_faults() {
  return {
      {"no header", safetensors(""), "header: not JSON"},
      {"cut JSON", safetensors(R"({"a":{"dtype":"F32")"), "header: not JSON at byte"},
      {"text after the object", safetensors("{} {}"), "header: not JSON at byte"},
      {"NUL padding", safetensors("{}\0\0"s), "header: not JSON at byte 3"},
      {"bytes behind a NUL", safetensors("{}\0evil"s), "header: not JSON at byte 3"},
      {"invalid UTF-8", safetensors("{\"\xff\":" + kFine + "}", k4), "header: not JSON at byte"},
      {"array", safetensors("[]"), "expected a JSON object, got an array"},
      {"string", safetensors(R"("a")"), "expected a JSON object, got a string"},
      {"number", safetensors("7"), "expected a JSON object, got a number"},
      {"null", safetensors("null"), "expected a JSON object, got null"},
      {"tensor is a number", safetensors(R"({"a":1})"),
       "tensor a: expected an object of dtype, shape and data_offsets, got a number"},
      {"tensor is an array", safetensors(R"({"a":[]})"),
       "tensor a: expected an object of dtype, shape and data_offsets, got an array"},
      {"nested ten million deep", safetensors(R"({"a":{"shape":)" + std::string(10'000'000, '[')),
       "tensor a: shape: expected whole numbers, got an array"},
      {"objects nested deep", safetensors(R"({"a":{"b":{"c":{}}}})"), "tensor a: unknown field b"},
      {"unknown field", safetensors(R"({"a":{"dtype":"F32","strides":[1]}})"), "tensor a: unknown field strides"},
      {"metadata of numbers", safetensors(R"({"__metadata__":{"a":1}})"), "__metadata__: expected strings only"},
      {"metadata of objects", safetensors(R"({"__metadata__":{"a":{}}})"), "__metadata__: expected strings only"},
      {"metadata is text", safetensors(R"({"__metadata__":"a"})"), "__metadata__: expected an object, got a string"},
      {"metadata twice", safetensors(R"({"__metadata__":{},"__metadata__":{}})"), "__metadata__ is given twice"},
  };
}

std::vector<Hostile> field_faults() {
  const std::string kOnes65 = json(std::vector<int>(65, 1)).dump();
  const auto one = [](const std::string& dtype, const std::string& shape, const std::string& offsets,
                      const std::string& data) {
    return safetensors(R"({"a":)" + tensor(dtype, shape, offsets) + "}", data);
  };
  return {
      {"unknown dtype", one("F33", "[1]", "[0,4]", k4), "tensor a: unknown dtype F33; known: F64, F32, F16"},
      {"dtype in small letters", one("f32", "[1]", "[0,4]", k4), "tensor a: unknown dtype f32"},
      {"dtype is a number", safetensors(R"({"a":{"dtype":32}})"), "tensor a: dtype: expected a string, got a number"},
      {"no dtype", safetensors(R"({"a":{"shape":[1],"data_offsets":[0,4]}})", k4), "tensor a: dtype is missing"},
      {"no shape", safetensors(R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", k4), "tensor a: shape is missing"},
      {"no offsets", safetensors(R"({"a":{"dtype":"F32","shape":[1]}})", k4), "tensor a: data_offsets are missing"},
      {"dtype twice", safetensors(R"({"a":{"dtype":"F32","dtype":"F16"}})"), "tensor a: dtype is given twice"},
      {"shape twice", safetensors(R"({"a":{"shape":[1],"shape":[2]}})"), "tensor a: shape is given twice"},
      {"negative size", one("F32", "[-1]", "[0,4]", k4), "tensor a: shape: expected whole numbers, got -1"},
      {"fractional size", one("F32", "[1.5]", "[0,4]", k4), "tensor a: shape: expected whole numbers, got 1.5"},
      {"size in quotes", one("F32", R"(["1"])", "[0,4]", k4), "tensor a: shape: expected whole numbers, got a string"},
      {"size is true", one("F32", "[true]", "[0,4]", k4), "tensor a: shape: expected whole numbers, got true"},
      {"size of 2^64", one("F32", "[18446744073709551616]", "[0,4]", k4), "tensor a: shape: expected whole numbers"},
      {"size of 2^63", one("F32", "[9223372036854775808]", "[0,4]", k4), "9223372036854775808 is beyond any file"},
      {"product overflows", one("F32", "[4294967296,4294967296]", "[0,4]", k4), "is beyond any file"},
      {"product wraps to 4 bytes", one("F32", "[4611686018427387905,1]", "[0,4]", k4), "is beyond any file"},
      {"overflow hidden by a 0", one("F32", "[0,4611686018427387904,4]", "[0,0]", ""), "is beyond any file"},
      {"65 dimensions", one("F32", kOnes65, "[0,4]", k4), "tensor a: shape: more than 64 numbers"},
      {"one offset", one("F32", "[1]", "[0]", k4), "tensor a: data_offsets: expected 2 numbers, got 1"},
      {"three offsets", one("F32", "[1]", "[0,4,4]", k4), "tensor a: data_offsets: expected 2 numbers, got 3"},
      {"offsets backwards", one("F32", "[1]", "[4,0]", k4), "tensor a: data_offsets [4, 0] run backwards"},
      {"too few bytes", one("F32", "[2]", "[0,4]", k4), "F32 [2] takes 8 bytes, data_offsets [0, 4] hold 4"},
      {"too many bytes", one("F16", "[1]", "[0,4]", k4), "F16 [1] takes 2 bytes, data_offsets [0, 4] hold 4"},
      {"past the end", one("F32", "[2]", "[0,8]", k4), "[0, 8] end beyond the file's 4 bytes of data"},
      {"far past the end", one("U8", "[9223372036854775807]", "[0,9223372036854775807]", k4),
       "end beyond the file's 4"},
  };
}

std::vector<Hostile> cover_faults() {
  const auto two = [](const std::string& a, const std::string& b, const std::string& data) {
    return safetensors(R"({"a":)" + a + R"(,"b":)" + b + "}", data);
  };
  const std::string second = tensor("F32", "[1]", "[4,8]");
  return {
      {"overlap", two(kFine, tensor("F32", "[1]", "[2,6]"), "123456"), "tensor b: its data overlaps that of tensor a"},
      {"same bytes twice", two(kFine, kFine, k4), "tensor b: its data overlaps that of tensor a"},
      {"hole between", two(kFine, tensor("F32", "[1]", "[8,12]"), k12),
       "tensor b: 4 bytes before its data belong to no tensor"},
      {"hole in front", safetensors(R"({"a":)" + second + "}", k8), "tensor a: 4 bytes before its data"},
      {"rest at the end", safetensors(R"({"a":)" + kFine + "}", k8), "4 bytes at the file's end belong to no tensor"},
      {"rest without tensors", safetensors("{}", k4), "4 bytes at the file's end belong to no tensor"},
      {"name twice", safetensors(R"({"a":)" + kFine + R"(,"a":)" + second + "}", k8),
       "tensor a: the name is given twice"},
      {"terminal codes in a name", safetensors(R"({"\u001b[2Jx":{"dtype":"F32"}})"), R"(tensor "\u001b[2Jx": shape)"},
      {"a name of a megabyte", safetensors("{\"" + std::string(1 << 20, 'x') + R"(":{"dtype":"F32"}})"),
       "xxx\\u2026\": shape"},
  };
}

class HostileFiles : public ::testing::TestWithParam<std::vector<Hostile> (*)()> {};

TEST_P(HostileFiles, AreRefusedByName) {
  const Folder folder;
  for (const Hostile& row : GetParam()()) {
    SCOPED_TRACE(row.name);
    const fs::path file = folder.write("model.safetensors", row.bytes);
    const std::string text = message([&] { open_safetensors(file); });
    expect_has(text, row.message);
    EXPECT_TRUE(text.starts_with(file.string() + ": ")) << text;
    EXPECT_LT(text.size(), 1000u) << "a message repeats the file";
  }
}

INSTANTIATE_TEST_SUITE_P(Safetensors, HostileFiles,
                         ::testing::Values(framing, json_faults, field_faults, cover_faults));

TEST(HostileFiles, NotAFile) {
  const Folder folder;
  expect_has(message([&] { open_safetensors(folder / "none"); }), "none: cannot be opened: No such file or directory");
  expect_has(message([&] { open_safetensors(folder.path()); }), "not a regular file");
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  expect_has(message([&] { open_safetensors(folder / "pipe"); }), "not a regular file");
}

// Every cut of a good file, and every byte of its header changed, is refused or read, never a crash.
TEST(HostileFiles, CutsAndChanges) {
  const Folder folder;
  write_safetensors(folder / "good", {{"a", at::ones({2, 3})}, {"b", at::zeros({5}, at::kHalf)}});
  const std::string good = read_bytes(folder / "good");
  for (std::size_t size = 0; size < good.size(); ++size) {
    const fs::path file = folder.write("cut", good.substr(0, size));
    EXPECT_THROW(open_safetensors(file), Error) << size;
  }
  const std::size_t header_end = good.size() - 6 * 4 - 5 * 2;
  int refused = 0;
  for (std::size_t i = 0; i < header_end; ++i) {
    for (const char byte : {'\0', '"', '9'}) {
      std::string bytes = good;
      bytes[i] = byte;
      try {
        const SourcePtr source = open_safetensors(folder.write("changed", bytes));
        for (const std::string& name : source->names()) source->load(name).clone();
      } catch (const Error&) {
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, static_cast<int>(header_end));
}

TEST(SafetensorsHeader, ThousandsOfTensorsInMilliseconds) {
  constexpr int64_t kCount = 2800, kBytes = 320 * 320 * 2;
  nlohmann::ordered_json tensors;
  for (int64_t i = 0; i < kCount; ++i) {
    tensors["down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.weight." + std::to_string(i)] = {
        {"dtype", "F16"}, {"shape", {320, 320}}, {"data_offsets", {i * kBytes, (i + 1) * kBytes}}};
  }
  const std::string header = tensors.dump();
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(parse_safetensors_header(header, kCount * kBytes, "file").tensors.size(), 2800u);
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
  std::cout << header.size() << " bytes of header in " << took.count() << " ms\n";
  EXPECT_LT(took.count(), 200);  // seen: see the line above; the limit leaves room for sanitizers and busy machines
}

}  // namespace
}  // namespace easel
