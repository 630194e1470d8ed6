// Products with weights that are kept in sixteen bits, against float64.
#include "nn/cpu/panels.h"

#include <cmath>

#include "easel/nn.h"
#include "easel/runtime.h"
#include "easel/vector_loops.h"
#include "nn/cpu/half_rows.h"
#include "nn/cpu/products.h"
#include "nn/cpu/winograd.h"
#include "support/golden.h"

namespace easel {
namespace {

using namespace testing;

// What is multiplied, and how far off its rounding leaves the results.
struct Dtypes {
  at::ScalarType x, weight;
  double tolerance;
};
constexpr Dtypes kDtypes[] = {{at::kBFloat16, at::kBFloat16, 4e-3},
                              {at::kBFloat16, at::kHalf, 4e-3},
                              {at::kFloat, at::kHalf, 5e-6},
                              {at::kFloat, at::kBFloat16, 5e-6}};

// As the kernel multiplies it.
Tensor kept(const Tensor& weight, at::ScalarType x) {
  const bool narrows =
      x == at::kBFloat16 && (cpu::pair_unit() == cpu::PairUnit::kAvx512 || cpu::pair_unit() == cpu::PairUnit::kAmx);
  return weight.to(narrows ? at::kBFloat16 : weight.scalar_type());
}

bool is_by_tiles(at::ScalarType x) { return x == at::kBFloat16 && cpu::pair_unit() == cpu::PairUnit::kAmx; }

Tensor in_panels(const Tensor& weight) {
  std::vector<Tensor> blocks;
  for (const Tensor& block : weight.split(cpu::kPanelColumns))
    blocks.push_back(block.reshape({block.size(0), weight.size(1) / 2, 2}).transpose(0, 1).flatten());
  return at::cat(blocks);
}

TEST(Panels, WeightsInTheOrderOfTheKernel) {
  for (const auto& [out, in] :
       {std::pair<int64_t, int64_t>{16, 16}, {1, 2}, {64, 32}, {65, 70}, {130, 2048}, {96, 646}, {200, 34}}) {
    for (const Dtypes& dtypes : kDtypes) {
      if (is_by_tiles(dtypes.x)) continue;  // amx_test.cpp
      const Tensor weight = at::randn({out, in}).to(dtypes.weight), want = in_panels(kept(weight, dtypes.x));
      EXPECT_TRUE(at::equal(cpu::pack_panels(weight, dtypes.x).weight.flatten(), want)) << out << " " << in;
    }
  }
}

// Files begin a tensor at any even byte.
TEST(Panels, WeightsFromAnywhere) {
  const Tensor all = at::randn({40 * 66 + 1}).to(at::kHalf), weight = all.narrow(0, 1, 40 * 66).view({40, 66});
  EXPECT_TRUE(at::equal(cpu::pack_panels(weight, at::kFloat).weight.flatten(), in_panels(weight)));
}

TEST(Panels, WhatIsNotFiniteIsFoundWhilePacking) {
  for (const Dtypes& dtypes : kDtypes) {
    if (is_by_tiles(dtypes.x)) continue;
    const Tensor largest = at::full({70, 66}, 65504).to(dtypes.weight);
    EXPECT_TRUE(cpu::pack_panels(largest, dtypes.x).finite);
    EXPECT_TRUE(cpu::pack_panels(-largest, dtypes.x).finite);
    for (const auto& [row, column] : {std::pair{0, 0}, {69, 65}, {63, 1}, {64, 33}}) {
      for (const double bad : {INFINITY, -INFINITY, NAN}) {
        Tensor spoiled = largest.clone();
        spoiled[row][column] = bad;
        EXPECT_FALSE(cpu::pack_panels(spoiled, dtypes.x).finite) << row << " " << column << " " << bad;
      }
    }
  }
}

TEST(Panels, EveryHalfIsWidened) {
  const Tensor bits = at::arange(65536, at::kInt).to(at::kShort), halves = bits.view(at::kHalf);
  const Tensor want = halves.to(at::kFloat), first = at::empty({32768}), second = at::empty({32768});
  cpu::widen_pairs(halves.const_data_ptr<at::Half>(), 32768, first.mutable_data_ptr<float>(),
                   second.mutable_data_ptr<float>());
  EXPECT_TRUE(at::allclose(at::stack({first, second}, 1).flatten(), want, 0, 0, /*equal_nan=*/true));
  for (int64_t i = 0; i < 65536; ++i) {
    const float widened = cpu::widen(halves.const_data_ptr<at::Half>()[i]), right = want.const_data_ptr<float>()[i];
    ASSERT_TRUE(std::isnan(right) ? std::isnan(widened)
                                  : std::bit_cast<uint32_t>(widened) == std::bit_cast<uint32_t>(right))
        << i;
  }
}

// At widths that are and are not whole blocks, with one row, a task's rest and more rows than a chunk; deeper than what
// is widened at once.
TEST(Panels, AreTheLinear) {
  at::manual_seed(1);
  for (const Dtypes& dtypes : kDtypes) {
    for (const auto& [rows, in, out] : {std::array<int64_t, 3>{1, 320, 320},
                                        {7, 258, 272},
                                        {31, 16, 80},
                                        {77, 2050, 384},
                                        {1100, 320, 640},
                                        {290, 1286, 257}}) {
      const std::string which = c10::str(rows, " ", in, " ", out, " ", dtypes.x, " ", dtypes.weight);
      if (!cpu::can_panels(in, out, dtypes.x)) continue;
      const Tensor weight = (at::randn({out, in}) / std::sqrt(static_cast<double>(in))).to(dtypes.weight);
      const Tensor x = at::randn({rows, in}).to(dtypes.x), bias = at::randn({out}).to(dtypes.x),
                   residual = at::randn({rows, out}).to(dtypes.x), packed = cpu::pack_panels(weight, dtypes.x).weight;
      const Tensor want = at::linear(x.to(at::kDouble), kept(weight, dtypes.x).to(at::kDouble));
      const auto near = [&, &dtypes = dtypes](const Tensor& got, const Tensor& exact) {
        EXPECT_EQ(got.scalar_type(), dtypes.x);
        EXPECT_LE(relative_difference(got.to(at::kDouble), exact), dtypes.tolerance) << which;
      };
      near(cpu::panel_linear(x, packed, {}, {}), want);
      near(cpu::panel_linear(x, packed, bias, {}), want + bias.to(at::kDouble));
      near(cpu::panel_linear(x, packed, bias, residual), want + bias.to(at::kDouble) + residual.to(at::kDouble));
      near(cpu::panel_linear(x.t().contiguous().t(), packed, {}, residual), want + residual.to(at::kDouble));
      if (!cpu::can_panel_geglu(packed)) continue;
      near(cpu::panel_geglu(x, packed, bias), geglu(want + bias.to(at::kDouble)));
      near(cpu::panel_geglu(x, packed, {}), geglu(want));
    }
  }
}

TEST(Panels, NotOfAllSizes) {
  EXPECT_TRUE(cpu::can_panel_geglu(at::zeros({128, 16})));
  EXPECT_FALSE(cpu::can_panel_geglu(at::zeros({192, 16})));
  for (const at::ScalarType x : {at::kFloat, at::kBFloat16}) EXPECT_FALSE(cpu::can_panels(1025, 1024, x));
  EXPECT_FALSE(cpu::can_panels(1024, 1024, at::kHalf));
  EXPECT_EQ(cpu::can_panels(256, 1024, at::kFloat), cpu::has_float_products() && !cpu::has_wide_runs());
}

// Deeper than a panel that is widened at once, and of more pixels than a chunk.
TEST(Panels, AreTheConvolution) {
  at::manual_seed(1);
  constexpr auto kLast = at::MemoryFormat::ChannelsLast;
  for (const Dtypes& dtypes : kDtypes) {
    for (const auto& [side, in, out, patches] :
         {std::tuple<int64_t, int64_t, int64_t, cpu::Patches>{24, 128, 320, {3, 1, 1}},
          {9, 16, 64, {3, 2, 1}},
          {9, 34, 300, {3, 2, 1}},
          {6, 6, 20, {3, 2, 0}},
          {5, 32, 16, {5, 1, 2}}}) {
      const int64_t k = patches.kernel;
      if (!cpu::can_panel_convolution({out, in, k, k}, dtypes.x)) continue;
      const Tensor weight = (at::randn({out, in, k, k}) / std::sqrt(static_cast<double>(in * k * k))).to(dtypes.weight);
      const Tensor x = at::randn({2, in, side, side + 3}).to(dtypes.x).contiguous(kLast), bias = at::randn({out});
      const Tensor want =
          at::conv2d(x.to(at::kDouble), weight.to(at::kDouble), bias.to(at::kDouble), patches.stride, patches.padding);
      const Tensor residual = at::randn(want.sizes()).to(dtypes.x), packed = cpu::pack_panels(weight, dtypes.x).weight;
      const Tensor got = cpu::panel_convolution(x, packed, bias, patches, residual);
      ASSERT_EQ(got.sizes(), want.sizes());
      EXPECT_TRUE(got.is_contiguous(kLast));
      EXPECT_LE(relative_difference(got.to(at::kDouble), want + residual.to(at::kDouble)), dtypes.tolerance)
          << side << " " << in << " " << dtypes.x << " " << dtypes.weight;
      const Tensor whole = at::conv2d(x.to(at::kDouble), weight.to(at::kDouble), {}, patches.stride, patches.padding);
      EXPECT_LE(relative_difference(cpu::panel_convolution(x, packed, {}, patches, {}).to(at::kDouble), whole),
                dtypes.tolerance);
    }
  }
}

// ---- layers that keep what a file has ------------------------------------------------------------------------------

Weights of_file(at::ScalarType stored, at::ScalarType dtype) {
  return Weights(random_source("nn/", 3, stored), at::kCPU, dtype);
}

TEST(Panels, LinearsKeepHalves) {
  for (const Dtypes& dtypes : kDtypes) {
    if (!cpu::can_panels(320, 640, dtypes.x)) continue;
    const Weights w = of_file(dtypes.weight, dtypes.x) / "linear";
    const Linear plain(w, 320, 640), packed(w.packed(), 320, 640);
    EXPECT_EQ(plain.weight.scalar_type(), dtypes.x);
    EXPECT_EQ(packed.weight.element_size(), 2);
    const auto bytes = static_cast<int64_t>(packed.weight.nbytes());
    EXPECT_EQ(bytes, packed_bytes({640, 320}, dtypes.x, dtypes.weight));
    EXPECT_EQ(2 * bytes, packed_bytes({640, 320}, at::kFloat));
    const Tensor x = at::randn({2, 9, 320}).to(dtypes.x);
    const double tolerance = dtypes.x == at::kFloat ? 2e-5 : 1e-2;
    EXPECT_LE(relative_difference(packed(x).to(at::kFloat), plain(x).to(at::kFloat)), tolerance);
    EXPECT_LE(relative_difference(packed.geglu(x).to(at::kFloat), geglu(plain(x)).to(at::kFloat)), 2 * tolerance);
    const Linear of_pixels = Linear::of_convolution(w.packed(), 320, 640);
    EXPECT_TRUE(at::equal(of_pixels(x), packed(x)));
  }
}

TEST(Panels, LinearsSideBySide) {
  for (const Dtypes& dtypes : kDtypes) {
    if (!cpu::can_panels(320, 640, dtypes.x)) continue;
    const Weights w = of_file(dtypes.weight, dtypes.x).packed();
    const Linear first(w / "linear", 320, 640, Bias::kNo), second(w / "other", 320, 320, Bias::kNo);
    const std::optional<Linear> both = Linear::side_by_side({&first, &second});
    ASSERT_TRUE(both);
    const Tensor x = at::randn({2, 9, 320}).to(dtypes.x);
    EXPECT_TRUE(at::equal((*both)(x), at::cat({first(x), second(x)}, -1)));
    const Linear biased(w / "linear", 320, 640), uneven(w / "uneven", 320, 288, Bias::kNo);
    EXPECT_FALSE(Linear::side_by_side({&first, &biased}));
    EXPECT_FALSE(Linear::side_by_side({&first, &uneven})) << "its last panel is a narrow one";
  }
}

TEST(Panels, ConvolutionsTakeHalves) {
  for (const Dtypes& dtypes : kDtypes) {
    const Weights w = of_file(dtypes.weight, dtypes.x) / "conv";
    for (const Conv2d::Shape2d& shape : {Conv2d::Shape2d{.in = 80, .out = 64},
                                         {.in = 64, .out = 272, .stride = 2},
                                         {.in = 64, .out = 3},
                                         {.in = 4, .out = 80},
                                         {.in = 272, .out = 320, .kernel = 1, .padding = 0}}) {
      const Conv2d plain(w, shape), packed(w.packed(), shape);
      const Shape weight = {shape.out, shape.in, shape.kernel, shape.kernel};
      const int64_t planned = packed_bytes(weight, dtypes.x, dtypes.weight);
      EXPECT_TRUE(shape.stride > 1 || static_cast<int64_t>(packed.weight.nbytes()) == planned) << shape.in;
      const Tensor x = at::randn({2, shape.in, 9, 13}).to(dtypes.x).contiguous(at::MemoryFormat::ChannelsLast);
      EXPECT_LE(relative_difference(packed(x).to(at::kFloat), plain(x).to(at::kFloat)),
                dtypes.x == at::kFloat ? 2e-5 : 2e-2)
          << shape.in << " " << dtypes.x << " " << dtypes.weight;
    }
  }
}

// Weights of every kind give what their own values in float32 give.
TEST(Panels, OfWinogradAreExact) {
  if (!cpu::can_winograd({80, 64, 3, 3}, at::kFloat)) GTEST_SKIP() << "wants AVX2";
  const Tensor x = at::randn({1, 64, 9, 6}).contiguous(at::MemoryFormat::ChannelsLast), shift = at::zeros({1, 80});
  const auto convolved = [&](const Tensor& weight) {
    return cpu::winograd_convolution({x, 9, 6}, cpu::pack_panels(weight, at::kFloat).weight, {shift, {}});
  };
  for (const at::ScalarType stored : {at::kHalf, at::kBFloat16}) {
    const Tensor weight = at::randn({80, 64, 3, 3}).to(stored);
    EXPECT_TRUE(at::equal(convolved(weight), convolved(weight.to(at::kFloat))));
  }
}

TEST(Panels, WhatIsNotFiniteIsReported) {
  for (const at::ScalarType stored : {at::kFloat, at::kHalf, at::kBFloat16}) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      Tensor weight = at::zeros({320, 64, 3, 3}).to(stored);
      weight[319][63][2][2] = INFINITY;
      const SourcePtr source = tensor_source({{"weight", weight}, {"bias", at::zeros({320})}}, "a file");
      for (const int64_t stride : {1, 2}) {
        const Weights w(source, at::kCPU, dtype);
        const Conv2d conv(w.packed(), {.in = 64, .out = 320, .stride = stride});
        ASSERT_EQ(w.binding().not_finite.size(), 1u) << stored << " " << dtype;
        EXPECT_EQ(w.binding().not_finite[0], "tensor weight holds values that are not finite (NaN or infinity)");
      }
    }
  }
}

}  // namespace
}  // namespace easel
