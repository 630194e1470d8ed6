// The view networks are built from: what is bound, how it is converted, and what finish() reports.
#include "easel/runtime.h"
#include "weights/cpu/halves.h"
#include "weights/files.h"
#include "weights/finite.h"

namespace easel {
namespace {

using namespace testing;

const float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();

SourcePtr file_of(const Folder& folder, const Named& tensors) {
  write_safetensors(folder / "file.safetensors", tensors);
  return open_safetensors(folder / "file.safetensors");
}

// All 65,536 of them.
TEST(Halves, BecomeWhatTensorToMakesOfThem) {
  const Tensor halves = at::arange(-32768, 32768).to(at::kShort).view(at::kHalf);
  for (const auto& [dtype, bits] : {std::pair{at::kBFloat16, at::kShort}, {at::kFloat, at::kInt}}) {
    const Tensor got = cpu::of_halves(halves, dtype).values, want = halves.to(dtype);
    const Tensor is_nan = at::isnan(want);
    EXPECT_TRUE(at::equal(at::isnan(got), is_nan));
    EXPECT_EQ(is_nan.sum().item<int64_t>(), 2 * 1023);
    const Tensor numbers = at::logical_not(is_nan);
    EXPECT_TRUE(at::equal(got.masked_select(numbers).view(bits), want.masked_select(numbers).view(bits)));
    EXPECT_TRUE(at::equal(cpu::of_halves(at::ones({3, 5}, at::kHalf).t(), dtype).values, at::ones({5, 3}, dtype)));
  }
}

TEST(Halves, AreFiniteOrNot) {
  const Tensor finite = at::tensor({65504.f, -65504.f, 6e-8f, -0.f}).to(at::kHalf).repeat(50'001);
  for (const at::ScalarType dtype : {at::kBFloat16, at::kFloat}) {
    EXPECT_TRUE(cpu::of_halves(finite, dtype).finite);
    EXPECT_TRUE(cpu::of_halves(finite.slice(0, 0, 0), dtype).finite);
    for (const float bad : {kNan, kInf, -kInf}) {
      for (const int64_t place : {int64_t{0}, int64_t{70'001}, finite.size(0) - 1}) {
        Tensor spoiled = finite.clone();
        spoiled[place] = bad;
        EXPECT_FALSE(cpu::of_halves(spoiled, dtype).finite) << dtype << " " << bad << " at " << place;
      }
    }
  }
}

TEST(Weights, PathsAreKeys) {
  const Weights w(nullptr, at::kMeta, at::kFloat);
  EXPECT_EQ(w.path("a"), "a");
  const Weights block = w / "down_blocks" / 0 / "to_out.0";
  EXPECT_EQ(block.path("weight"), "down_blocks.0.to_out.0.weight");
  EXPECT_TRUE(block.get("weight", {2, 3}).is_meta());
  EXPECT_EQ(w.get("x", {4}).sizes(), at::IntArrayRef({4}));
  EXPECT_FALSE(w.maybe("y", {5}).defined());
  EXPECT_FALSE(w.has("x"));
  EXPECT_EQ(w.binding().asked,
            (std::map<std::string, Shape>{{"down_blocks.0.to_out.0.weight", {2, 3}}, {"x", {4}}, {"y", {5}}}));
  EXPECT_NO_THROW(w.finish("unet", none));
}

TEST(Weights, NoCopyWhereDtypeAndDeviceFit) {
  const Folder folder;
  for (const at::ScalarType type : {at::kFloat, at::kHalf, at::kBFloat16, at::kDouble}) {
    const SourcePtr source = file_of(folder, {{"a", at::randn({4, 5}).to(type)}});
    EXPECT_EQ(Weights(source, at::kCPU, type).get("a", {4, 5}).data_ptr(), source->load("a").data_ptr());
  }
}

TEST(Weights, ConvertsBetweenAllFloats) {
  const Folder folder;
  const Tensor values = at::tensor({0.f, -1.f, 0.1f, 1.0f / 3, 65504.f, 1e-5f, -3.14159f, 1e-8f});
  for (const at::ScalarType stored : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16}) {
    for (const at::ScalarType wanted : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16}) {
      if (stored == at::kBFloat16 && wanted == at::kHalf) continue;  // 65504 becomes 65536, beyond f16: tested below
      const Weights w(file_of(folder, {{"a", values.to(stored)}}), at::kCPU, wanted);
      const Tensor got = w.get("a", {8});
      EXPECT_EQ(got.scalar_type(), wanted);
      EXPECT_TRUE(got.equal(values.to(stored).to(wanted))) << stored << " to " << wanted;
      EXPECT_NO_THROW(w.finish("unet", none));
    }
  }
}

TEST(Weights, PagesAreDroppedExactlyWhenTheTensorIsCopied) {
  class Counting : public WeightSource {
   public:
    std::vector<std::string> names() const override { return {"a"}; }
    std::optional<TensorInfo> info(const std::string&) const override { return TensorInfo{{3}, at::kFloat}; }
    using WeightSource::load;
    Tensor load(const std::string&) const override { return at::ones(3); }
    void drop_pages(const std::string&) const override { ++dropped; }
    std::string describe() const override { return "counting"; }
    mutable int dropped = 0;
  };
  const auto source = std::make_shared<Counting>();
  Weights(source, at::kCPU, at::kFloat).get("a", {3});
  EXPECT_EQ(source->dropped, 0);
  Weights(source, at::kCPU, at::kHalf).get("a", {3});
  EXPECT_EQ(source->dropped, 1);
}

TEST(Weights, OptionalAndOldNames) {
  const Folder folder;
  const SourcePtr source = file_of(
      folder,
      {{"b.query.weight", at::ones({1})}, {"b.key", at::ones({2})}, {"b.keys", at::ones({2})}, {"c", at::ones({3})}});
  const Weights w(source, at::kCPU, at::kFloat);
  EXPECT_TRUE(w.maybe("c", {3}).defined());
  EXPECT_FALSE(w.maybe("d", {3}).defined());
  EXPECT_TRUE(w.has("c"));
  EXPECT_TRUE(w.has("b"));
  EXPECT_TRUE((w / "b").has("query"));
  EXPECT_TRUE((w / "b").has("key"));
  EXPECT_FALSE((w / "b").has("que"));
  EXPECT_FALSE(w.has("d"));
  EXPECT_EQ((w / "b").either({"to_q", "query"}).path("weight"), "b.query.weight");
  EXPECT_EQ((w / "b").either({"query", "to_q"}).path("weight"), "b.query.weight");
  EXPECT_EQ((w / "b").either({"to_v", "value"}).path("weight"), "b.to_v.weight");
  EXPECT_EQ(w.stored_shape("c"), Shape{3});
  EXPECT_EQ(w.stored_shape("d"), std::nullopt);
  // A maybe() that is there must still fit.
  w.maybe("b.key", {7});
  EXPECT_EQ(w.binding().misfit.size(), 1u);
}

TEST(Weights, OneByOneConvolutionsAreLinears) {
  const Folder folder;
  const Tensor conv = at::randn({3, 4, 1, 1});
  const SourcePtr source = file_of(folder, {{"q", conv}, {"k", at::randn({3, 4, 1, 2})}, {"v", at::randn({3, 4})}});
  const Weights w(source, at::kCPU, at::kFloat);
  const Tensor linear = w.get("q", {3, 4});
  EXPECT_TRUE(linear.equal(conv.view({3, 4})));
  EXPECT_EQ(linear.data_ptr(), source->load("q").data_ptr());
  EXPECT_EQ(w.stored_shape("q"), (Shape{3, 4, 1, 1}));
  w.get("k", {3, 4});
  w.get("v", {3, 4, 1, 1});  // only what is stored may have more dimensions
  EXPECT_EQ(w.binding().misfit, (std::vector<std::string>{"tensor k is [3, 4, 1, 2], expected [3, 4]",
                                                          "tensor v is [3, 4], expected [3, 4, 1, 1]"}));
}

TEST(Weights, ZeroSizeTensors) {
  const Folder folder;
  const Weights w(file_of(folder, {{"a", at::empty({0, 4})}}), at::kCPU, at::kHalf);
  EXPECT_EQ(w.get("a", {0, 4}).sizes(), at::IntArrayRef({0, 4}));
  EXPECT_NO_THROW(w.finish("unet", none));
}

TEST(Weights, TheMetaDeviceChecksWithoutReading) {
  class Unreadable : public WeightSource {
   public:
    std::vector<std::string> names() const override { return {"a", "b", "extra"}; }
    std::optional<TensorInfo> info(const std::string& name) const override {
      return name == "a" || name == "b" ? std::optional(TensorInfo{{2}, at::kHalf}) : std::nullopt;
    }
    using WeightSource::load;
    Tensor load(const std::string&) const override { throw std::logic_error("a value was read"); }
    std::string describe() const override { return "unreadable"; }
  };
  const Weights w(std::make_shared<Unreadable>(), at::kMeta, at::kFloat);
  EXPECT_TRUE(w.get("a", {2}).is_meta());
  EXPECT_EQ(w.get("a", {2}).scalar_type(), at::kFloat);
  w.get("b", {3});
  w.get("c", {4});
  const std::string text = message([&] { w.finish("unet", none); });
  EXPECT_TRUE(
      text.starts_with("unreadable: missing tensor c, expected [4]\n"
                       "unreadable: tensor b is [2], expected [3]\n"
                       "unreadable: unexpected tensor extra\n"))
      << text;
}

// ---- finish() -------------------------------------------------------------------------------------------------------

TEST(WeightsFinish, NamesEveryFaultInOneError) {
  const Folder folder;
  const Weights w(file_of(folder, {{"good", at::ones(1)},
                                   {"shape", at::ones({2, 3})},
                                   {"whole", at::ones(2, at::kLong)},
                                   {"nan", at::tensor({1.f, kNan})},
                                   {"extra", at::ones(1)},
                                   {"known", at::ones(1)}}),
                  at::kCPU, at::kFloat);
  const Weights block = w / "block" / 1;
  w.get("good", {1});
  block.get("weight", {4, 4});
  w.get("shape", {3, 2});
  w.get("whole", {2});
  w.get("nan", {2});
  const auto known = [](const std::string& name) { return name == "known"; };
  try {
    w.finish("unet", known);
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    const std::string begin = (folder / "file.safetensors").string() + ": ";
    EXPECT_EQ(error.kind(), ErrorKind::kFile);
    EXPECT_EQ(error.faults(),
              (std::vector<std::string>{begin + "missing tensor block.1.weight, expected [4, 4]",
                                        begin + "tensor shape is [2, 3], expected [3, 2]",
                                        begin + "tensor whole is stored as I64, expected F32, F16, BF16 or F64",
                                        begin + "tensor nan holds values that are not finite (NaN or infinity)",
                                        begin + "unexpected tensor extra"}));
    expect_has(error.hint(), "the config of unet do not belong together");
  }
}

TEST(WeightsFinish, ListsTwentyOfAKindAndCountsTheRest) {
  const Folder folder;
  Named tensors;
  for (int i = 100; i < 130; ++i) {
    tensors.emplace_back("extra." + std::to_string(i), at::ones(1));
    tensors.emplace_back("nan." + std::to_string(i), at::full({1}, kNan));
  }
  const Weights w(file_of(folder, tensors), at::kCPU, at::kFloat);
  for (int i = 100; i < 121; ++i) w.get("missing." + std::to_string(i), {1});
  for (int i = 100; i < 130; ++i) w.get("nan." + std::to_string(i), {1});
  const std::string text = message([&] { w.finish("vae", none); });
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3 * 21);
  expect_has(text, "missing tensor missing.119, ");
  expect_has(text, "and 1 more missing tensors");
  expect_has(text, "and 10 more tensors with bad values");
  expect_has(text, "unexpected tensor extra.119\n");
  expect_has(text, "and 10 more unexpected tensors");
  EXPECT_EQ(text.find("extra.120"), std::string::npos);
}

TEST(WeightsFinish, NothingIsWrong) {
  const Folder folder;
  const Weights w(file_of(folder, {{"a", at::ones(1)}, {"b", at::ones(1)}}), at::kCPU, at::kFloat);
  w.get("a", {1});
  expect_has(message([&] { w.finish("unet", none); }), "unexpected tensor b");
  (w / "x").either({"y"});  // asks for nothing
  w.get("b", {1});
  EXPECT_NO_THROW(w.finish("unet", none));
}

// ---- finite values --------------------------------------------------------------------------------------------------

TEST(Weights, NotFiniteInAnyDtype) {
  const Folder folder;
  for (const float bad : {kNan, kInf, -kInf}) {
    for (const at::ScalarType stored : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16}) {
      for (const at::ScalarType wanted : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16}) {
        const Weights w(file_of(folder, {{"a", at::tensor({1.f, bad}).to(stored)}}), at::kCPU, wanted);
        w.get("a", {2});
        const std::string text = message([&] { w.finish("unet", none); });
        expect_has(text, "tensor a holds values that are not finite");
        expect_has(text, "the file of unet may be damaged");
      }
    }
  }
}

TEST(Weights, BeyondTheRangeOfTheWantedDtype) {
  const Folder folder;
  for (const auto& [value, stored, wanted, name] :
       std::vector<std::tuple<double, at::ScalarType, at::ScalarType, std::string>>{
           {1e5, at::kFloat, at::kHalf, "f16"},
           {65504, at::kBFloat16, at::kHalf, "f16"},
           {3.4e38, at::kFloat, at::kBFloat16, "bf16"},
           {1e39, at::kDouble, at::kFloat, "f32"}}) {
    const Weights w(file_of(folder, {{"a", at::full({1}, value, at::kDouble).to(stored)}}), at::kCPU, wanted);
    w.get("a", {1});
    expect_has(message([&] { w.finish("unet", none); }), "tensor a has values beyond the range of " + name);
  }
}

TEST(AllFinite, FindsOneBadValueAnywhere) {
  for (const int64_t size : {1, 2, 3, 5, 7, 63, 1000, (1 << 17) + 1, 300'000}) {
    for (const at::ScalarType type : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16}) {
      const Tensor x = at::randn({size}).to(type);
      EXPECT_TRUE(all_finite(x));
      for (const int64_t place : {int64_t{0}, size / 2, size - 1}) {
        for (const float bad : {kNan, kInf, -kInf}) {
          const Tensor spoiled = x.clone();
          spoiled[place] = bad;
          EXPECT_FALSE(all_finite(spoiled)) << size << " " << place << " " << type << " " << bad;
        }
      }
    }
  }
}

TEST(AllFinite, LargestAndSmallestValuesAreFinite) {
  EXPECT_TRUE(all_finite(at::tensor({3.4028234e38f, -3.4028234e38f, 1e-45f, -0.f})));
  EXPECT_TRUE(all_finite(at::tensor({65504.f, -65504.f, 6e-8f}).to(at::kHalf)));
  EXPECT_TRUE(all_finite(at::empty({0})));
  const Tensor columns = at::tensor({1.f, kNan, 1.f, 1.f}).view({2, 2});
  EXPECT_TRUE(all_finite(columns.select(1, 0)));
  EXPECT_FALSE(all_finite(columns.select(1, 1)));
}

TEST(AllFinite, CostsLittle) {
  const Tensor x = at::ones({64 << 20}, at::kHalf);  // 128 MiB
  all_finite(x);
  const double start = now_seconds();
  EXPECT_TRUE(all_finite(x));
  const double gigabytes = static_cast<double>(x.nbytes()) / 1e9, took = now_seconds() - start;
  std::cout << gigabytes / took << " GB/s\n";
  EXPECT_LT(took, 0.5);  // seen: 0.01 to 0.02 s; slow only when it is no longer vectorised and in parallel
}

}  // namespace
}  // namespace easel
