// The CUDA kernels' arithmetic, indices and layout, on the CPU's threads. Nothing here says that a GPU runs them.
#include <gtest/gtest.h>

#include "cuda_on_threads.h"
// After it.
#include "easel/nn.h"
#include "nn/cuda/kernels.cuh"
#include "nn/cuda_kernels.h"
#include "support/golden.h"

namespace easel {
namespace {

using namespace testing;
using namespace cuda;

// cuda_on_threads.h's, for the launches of kernels.cuh.
constexpr auto kOnThreads = [](auto... arguments) { launch(arguments...); };

template <typename T, int N>
Tensor group_norm_on_threads(const Tensor& x, int64_t groups, const Tensor& weight, const Tensor& bias, float eps,
                             bool silu) {
  const NormSizes s{x.size(0), x.size(2) * x.size(3), x.size(1), groups};
  std::vector<float> workspace(static_cast<std::size_t>(workspace_of(s)));
  Tensor y = at::full_like(x, NAN);
  cuda::group_norm<T, N>(kOnThreads, s, eps, silu, x.const_data_ptr<T>(), weight.const_data_ptr<T>(),
                         bias.const_data_ptr<T>(), workspace.data(), y.mutable_data_ptr<T>());
  return y;
}

template <typename T>
void expect_group_norms(at::ScalarType dtype, double tolerance) {
  for (const auto& [batch, channels, groups, height, width, mean] :
       {std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, double>{2, 40, 4, 7, 9, 0},
        {1, 12, 4, 5, 13, 0},
        {3, 6, 2, 1, 1, 0},
        {1, 64, 32, 33, 2, 100}}) {
    const Tensor x =
        (at::randn({batch, channels, height, width}) + mean).to(dtype).contiguous(at::MemoryFormat::ChannelsLast);
    const Tensor weight = at::randn({channels}).to(dtype), bias = at::randn({channels}).to(dtype);
    const Tensor norm = at::group_norm(x.to(at::kDouble), groups, weight.to(at::kDouble), bias.to(at::kDouble), 1e-5);
    for (const bool silu : {false, true}) {
      const bool pairs = channels / groups % 2 == 0;
      const Tensor got = pairs ? group_norm_on_threads<T, 2>(x, groups, weight, bias, 1e-5F, silu)
                               : group_norm_on_threads<T, 1>(x, groups, weight, bias, 1e-5F, silu);
      EXPECT_LE(relative_difference(got.to(at::kDouble), silu ? at::silu(norm) : norm), tolerance)
          << dtype << " " << x.sizes() << " " << groups;
    }
  }
}

// Odd numbers of channels in a group, rests of pixels, one pixel, and a mean far from zero.
TEST(CudaKernels, GroupNormOnThreads) {
  at::manual_seed(1);
  expect_group_norms<float>(at::kFloat, 5e-6);
  expect_group_norms<at::Half>(at::kHalf, 1e-3);
  expect_group_norms<at::BFloat16>(at::kBFloat16, 8e-3);
}

TEST(CudaKernels, GegluOnThreads) {
  at::manual_seed(1);
  for (const int64_t width : {1, 6, 35, 40}) {
    const Tensor x = at::randn({5, 2 * width}) * 3;
    const Tensor want = x.narrow(1, 0, width) * at::gelu(x.narrow(1, width, width));
    Tensor y = at::full({5, width}, NAN);
    if (width % 2 == 0)
      cuda::geglu<float, 2>(kOnThreads, 5, width, x.const_data_ptr<float>(), y.mutable_data_ptr<float>());
    else
      cuda::geglu<float, 1>(kOnThreads, 5, width, x.const_data_ptr<float>(), y.mutable_data_ptr<float>());
    EXPECT_LE(relative_difference(y, want), 1e-6) << width;
  }
}

template <typename T>
void expect_residual_layer_norms(at::ScalarType dtype, double tolerance) {
  for (const auto& [rows, width, mean] : {std::tuple<int64_t, int64_t, double>{5, 320, 0},
                                          {3, 7, 0},
                                          {2, 1, 0},
                                          {4, 2, 0},
                                          {3, 331, 0},
                                          {2, 640, 100},
                                          {1, 129, 100}}) {
    const Tensor x = (at::randn({rows, width}) + mean).to(dtype), residual = at::randn({rows, width}).to(dtype);
    const Tensor weight = at::randn({width}).to(dtype), bias = at::randn({width}).to(dtype);
    const Tensor sum = x + residual;
    const Tensor norm =
        at::layer_norm(sum.to(at::kDouble), {width}, weight.to(at::kDouble), bias.to(at::kDouble), 1e-5);
    Tensor got = x.clone(), y = at::full_like(x, NAN);
    const LayerNormSizes s{rows, width, 1e-5F};
    const auto run = [&]<int N>(std::integral_constant<int, N>) {
      cuda::residual_layer_norm<T, N>(kOnThreads, s, got.const_data_ptr<T>(), residual.const_data_ptr<T>(),
                                      weight.const_data_ptr<T>(), bias.const_data_ptr<T>(), got.mutable_data_ptr<T>(),
                                      y.mutable_data_ptr<T>());
    };
    width % 2 == 0 ? run(std::integral_constant<int, 2>()) : run(std::integral_constant<int, 1>());
    EXPECT_TRUE(at::equal(got, sum)) << dtype << " " << x.sizes();
    EXPECT_LE(relative_difference(y.to(at::kDouble), norm), tolerance) << dtype << " " << x.sizes();
  }
}

// Odd widths, more and fewer values than a block has threads, one value, and a mean far from zero; the sum in place.
TEST(CudaKernels, ResidualLayerNormOnThreads) {
  at::manual_seed(1);
  expect_residual_layer_norms<float>(at::kFloat, 5e-6);
  expect_residual_layer_norms<at::Half>(at::kHalf, 1e-3);
  expect_residual_layer_norms<at::BFloat16>(at::kBFloat16, 8e-3);
}

TEST(CudaKernels, TakeWhatTheyCanRead) {
  const Tensor x = at::zeros({1, 8, 3, 3}), last = x.contiguous(at::MemoryFormat::ChannelsLast);
  EXPECT_TRUE(can_group_norm(last));
  EXPECT_TRUE(can_group_norm(last.to(at::kHalf)));
  EXPECT_FALSE(can_group_norm(x)) << "another layout";
  EXPECT_FALSE(can_group_norm(last.to(at::kDouble)));
  EXPECT_FALSE(can_group_norm(at::zeros({0, 8, 3, 3})));
  const Tensor tokens = at::zeros({2, 5, 12}), odd = at::zeros({121}).narrow(0, 1, 120).view({2, 5, 12});
  EXPECT_TRUE(can_geglu(tokens));
  EXPECT_FALSE(can_geglu(tokens.transpose(0, 1)));
  EXPECT_FALSE(can_geglu(at::zeros({2, 5}))) << "no two halves";
  EXPECT_FALSE(can_geglu(odd)) << "between two pairs";
  EXPECT_TRUE(can_add_and_layer_norm(tokens, tokens));
  EXPECT_FALSE(can_add_and_layer_norm(tokens, tokens.to(at::kHalf)));
  EXPECT_FALSE(can_add_and_layer_norm(tokens, at::zeros({1, 5, 12}))) << "another shape";
  EXPECT_FALSE(can_add_and_layer_norm(tokens, at::zeros({2, 5, 24}).narrow(2, 0, 12)));
  EXPECT_FALSE(can_add_and_layer_norm(odd, tokens));
}

}  // namespace
}  // namespace easel
