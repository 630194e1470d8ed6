#include "easel/runtime.h"

#include <gtest/gtest.h>

namespace easel {
namespace {

TEST(RandomStream, EqualsTorchsCpuGenerator) {
  // torch.randn(4, generator=torch.Generator().manual_seed(0)), and of 16 (another path in torch) the first four
  const std::vector<float> few = {1.5409961f, -0.2934289f, -2.1787894f, 0.5684313f};
  const std::vector<float> many = {-1.1258398f, -1.1523602f, -0.2505786f, -0.4338788f};
  EXPECT_TRUE(at::allclose(RandomStream(0).randn({4}), at::tensor(few), 1e-6, 1e-6));
  EXPECT_TRUE(at::allclose(RandomStream(0).randn({16}).narrow(0, 0, 4), at::tensor(many), 1e-6, 1e-6));
}

TEST(RandomStream, OnlyTheLow32BitsOfASeedCount) {
  constexpr uint64_t kHigh = uint64_t{1} << 40;
  EXPECT_TRUE(at::equal(RandomStream(17).randn({20}), RandomStream(kHigh + 17).randn({20})));
  EXPECT_FALSE(at::equal(RandomStream(17).randn({20}), RandomStream(18).randn({20})));
}

TEST(RandomStream, StreamsDoNotShareState) {
  RandomStream a(1), b(1);
  const Tensor first = a.randn({20});
  EXPECT_FALSE(at::equal(first, a.randn({20})));
  EXPECT_TRUE(at::equal(first, b.randn({20})));
}

TEST(RandomSeed, BelowTwoToThe32) {
  std::set<uint64_t> seen;
  for (int i = 0; i < 64; ++i) {
    seen.insert(random_seed());
    EXPECT_LT(*seen.rbegin(), uint64_t{1} << 32);
  }
  EXPECT_GT(seen.size(), 60u);
}

TEST(Precision, Words) {
  const Precision f32 = resolve_precision("cpu", DtypeChoice::kF32);
  EXPECT_EQ(f32.device_name(), "cpu");
  EXPECT_EQ(f32.dtype_name(), "f32");
  EXPECT_EQ(resolve_precision("cpu", DtypeChoice::kBF16).vae, at::kBFloat16);
  EXPECT_EQ(resolve_precision("cpu", DtypeChoice::kF16).text, at::kHalf);
  EXPECT_EQ(resolve_precision("cpu", DtypeChoice::kAuto).unet, cpu_has_native_bf16() ? at::kBFloat16 : at::kFloat);
  EXPECT_EQ(dtype_choice("bf16"), DtypeChoice::kBF16);
  EXPECT_THROW(dtype_choice("fp16"), Error);
}

TEST(Precision, EightBitsOnTheCpuWhereItHasThem) {
  ASSERT_EQ(dtype_choice("int8"), DtypeChoice::kInt8);
  if (!cpu_has_int8()) {
    EXPECT_THROW(resolve_precision("cpu", DtypeChoice::kInt8), Error);
    return;
  }
  const Precision int8 = resolve_precision("cpu", DtypeChoice::kInt8);
  EXPECT_TRUE(int8.int8);
  EXPECT_EQ(int8.dtype_name(), "int8");
  EXPECT_EQ(int8.unet, resolve_precision("cpu", DtypeChoice::kAuto).unet);
}

TEST(Precision, UnknownDevices) {
  for (const char* word : {"", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", "CPU", "cpu:0"}) {
    try {
      resolve_precision(word, DtypeChoice::kAuto);
      ADD_FAILURE() << word << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage) << word;
    }
  }
}

TEST(Precision, CudaWithoutADeviceSaysWhy) {
  std::string why;
  if (!cuda_devices(&why).empty()) GTEST_SKIP() << "there is a CUDA device";
  EXPECT_FALSE(why.empty());
  try {
    resolve_precision("cuda", DtypeChoice::kAuto);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kFile);
    EXPECT_NE(std::string(error.what()).find(why), std::string::npos) << error.what();
    EXPECT_NE(error.hint().find("--device cpu"), std::string::npos);
  }
  EXPECT_EQ(resolve_precision("auto", DtypeChoice::kF32).device, at::Device(at::kCPU));
}

TEST(Process, MemoryIsPlausible) {
  EXPECT_GT(peak_memory_bytes(), 1 << 20);
  EXPECT_GT(available_memory_bytes(), 1 << 20);
  const int64_t before = peak_memory_bytes();
  std::vector<char> block(256 << 20, 1);  // more than the tests before have had
  EXPECT_GE(peak_memory_bytes(), before + (32 << 20)) << static_cast<int>(block[12345]);
}

}  // namespace
}  // namespace easel
