// Writing what a source holds: dtypes, streaming, and what is left when it fails.
#include <sys/resource.h>

#include <csignal>

#include "easel/runtime.h"
#include "weights/shape_source.h"

namespace easel {
namespace {

using namespace testing;

Named mixed() {
  return {{"half", at::rand({3, 5}).to(at::kHalf)},
          {"full", at::randn({4})},
          {"brain", at::randn({2, 2}).to(at::kBFloat16)},
          {"double", at::randn({2}, at::kDouble)},
          {"whole", at::arange(7, at::kLong)},
          {"flag", at::ones({2}, at::kBool)},
          {"empty", at::empty({0})},
          {"nan", at::full({2}, std::nan(""))}};
}

TEST(Write, EveryTensorAsItIsStored) {
  const Folder folder;
  write_safetensors(folder / "a", mixed());
  const SourcePtr first = open_safetensors(folder / "a");
  write_safetensors(folder / "b", *first, {}, first->metadata());
  EXPECT_EQ(read_bytes(folder / "a"), read_bytes(folder / "b"));
}

TEST(Write, ADtypeForFloatsAlone) {
  const Folder folder;
  write_safetensors(folder / "a", mixed());
  write_safetensors(folder / "b", *open_safetensors(folder / "a"), at::kBFloat16);
  const SourcePtr written = open_safetensors(folder / "b");
  for (const auto& [name, tensor] : mixed()) {
    const bool is_float = c10::isFloatingType(tensor.scalar_type());
    EXPECT_EQ(written->load(name).scalar_type(), is_float ? at::kBFloat16 : tensor.scalar_type()) << name;
  }
  const SourcePtr a = open_safetensors(folder / "a");
  EXPECT_TRUE(at::equal(written->load("full"), a->load("full").to(at::kBFloat16)));
  EXPECT_TRUE(at::equal(written->load("half"), a->load("half").to(at::kBFloat16)));
  EXPECT_TRUE(at::equal(written->load("whole"), a->load("whole")));
  EXPECT_TRUE(written->load("nan").isnan().all().item<bool>());
}

TEST(Write, ValuesBeyondTheDtypesRange) {
  const Folder folder;
  const SourcePtr source = tensor_source({{"a", at::full({2}, 1e6)}, {"b", at::ones({2})}}, "source");
  const std::string text = message([&] { write_safetensors(folder / "x", *source, at::kHalf); });
  expect_has(text, "source: tensor a has values beyond the range of F16");
  EXPECT_TRUE(fs::is_empty(folder.path()));
  write_safetensors(folder / "x", *source, at::kBFloat16);
}

TEST(Write, NamesThatAreNotUtf8) {
  const Folder folder;
  expect_has(message([&] { write_safetensors(folder / "x", {{"\xff", at::ones(1)}}); }), "not UTF-8");
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

// A child process, for the limit and the signal would be the whole test's. It runs this test from its beginning, with a
// folder of its own.
TEST(Write, AFullDiskLeavesNothing) {
  const Folder folder;
  const auto write_limited = [&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {1000, 1000};
    setrlimit(RLIMIT_FSIZE, &limit);
    try {
      write_safetensors(folder / "x", {{"a", at::ones({10000})}});
    } catch (const Error& error) {
      const bool nothing = fs::is_empty(folder.path());
      fs::remove_all(folder.path());
      std::_Exit(nothing ? error.exit_code() : 1);
    }
    std::_Exit(0);
  };
  GTEST_FLAG_SET(death_test_style, "threadsafe");  // a new process in place of a fork of this one, which has threads
  EXPECT_EXIT(write_limited(), ::testing::ExitedWithCode(3), "");
}

// Tensors are made when they are written, and each is let go before the next: the peak is the largest of them.
class Growing : public WeightSource {
 public:
  static constexpr int64_t kCount = 16, kBytes = 8 << 20;
  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    for (int64_t i = 0; i < kCount; ++i) names.push_back("t" + std::to_string(i));
    return names;
  }
  std::optional<TensorInfo> info(const std::string&) const override { return TensorInfo{{kBytes / 4}, at::kFloat}; }
  using WeightSource::load;
  Tensor load(const std::string&) const override { return at::ones({kBytes / 4}); }
  std::string describe() const override { return "tensors that are made"; }
};

TEST(Write, MemoryHoldsOneTensorAtATime) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "the address sanitizer keeps freed memory for a while";
#endif
  const Folder folder;
  write_safetensors(folder / "warm-up", {{"a", at::ones({Growing::kBytes / 4})}});
  const int64_t before = peak_memory_bytes();
  write_safetensors(folder / "x", Growing(), at::kHalf);  // 128 MB of tensors
  // Read through a mapping, whose pages count too until they are dropped.
  write_safetensors(folder / "y", *open_safetensors(folder / "x"), at::kFloat);
  EXPECT_LT(peak_memory_bytes() - before, 5 * Growing::kBytes);
  EXPECT_EQ(open_safetensors(folder / "y")->names().size(), static_cast<std::size_t>(Growing::kCount));
}

TEST(OpenWeightsFile, ByContentNotByName) {
  const Folder folder;
  write_safetensors(folder / "model.ckpt", {{"a", at::ones(3)}});
  EXPECT_EQ(open_weights_file(folder / "model.ckpt")->names(), std::vector<std::string>{"a"});
  // A header of 640 bytes begins like a pickle.
  const std::string header = R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
  const fs::path file = folder.write("b", safetensors(header + std::string(640 - header.size(), ' '), "x"));
  ASSERT_EQ(read_bytes(file).substr(0, 2), "\x80\x02");
  EXPECT_EQ(open_weights_file(file)->names(), std::vector<std::string>{"a"});
  for (const fs::directory_entry& sample : fs::directory_iterator(fs::path(EASEL_TEST_DATA) / "pickles")) {
    if (sample.path().extension() != ".pt" || sample.path().filename().string().starts_with("refused")) continue;
    fs::copy(sample.path(), folder / "x.safetensors", fs::copy_options::overwrite_existing);
    EXPECT_FALSE(open_weights_file(folder / "x.safetensors")->names().empty()) << sample.path();
  }
  expect_has(message([&] { open_weights_file(folder / "none"); }), "none: cannot be opened: No such file");
  expect_has(message([&] { open_weights_file(folder.path()); }), "not a regular file");
  expect_has(message([&] { open_weights_file(folder.write("page", "<!DOCTYPE html>")); }), "this is a web page");
  EXPECT_TRUE(message([&] { open_weights_file(folder.write("empty", "")); }).starts_with((folder / "empty").string()));
}

}  // namespace
}  // namespace easel
