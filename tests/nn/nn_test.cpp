// The layers against their definitions, written out.
#include "easel/nn.h"

#include <cmath>

#include "easel/runtime.h"
#include "nn/cpu/attention.h"
#include "nn/cpu/exponentials.h"
#include "nn/cpu/geglu.h"
#include "nn/cpu/group_norm.h"
#include "nn/cpu/instruction_sets.h"
#include "nn/cpu/int8.h"
#include "nn/cpu/panels.h"
#include "nn/cpu/products.h"
#include "nn/cpu/softmax_columns.h"
#include "nn/cpu/winograd.h"
#include "support/golden.h"

namespace easel {
namespace {

using namespace testing;

Weights random_weights() { return Weights(random_source("nn/", 3, at::kFloat), at::kCPU, at::kFloat); }

// The fast kernel against the definition in float64, over sizes that leave rests in every loop.
TEST(GroupNorm, IsTheDefinitionAndKeepsTheLayout) {
  for (const auto& [dtype, tolerance] : {std::pair{at::kFloat, 1e-6}, {at::kBFloat16, 4e-3}, {at::kHalf, 1e-3}}) {
    for (const int64_t height : {1, 5, 33}) {
      const GroupNorm norm(Weights(random_source("nn/", 3, at::kFloat), at::kCPU, dtype) / "norm", 12, 3, 1e-5);
      const Tensor x = (at::randn({2, 12, height, 7}) * 3 + 1).to(dtype).contiguous(at::MemoryFormat::ChannelsLast);
      const Tensor grouped = x.to(at::kDouble).reshape({2, 3, -1});
      const Tensor centred = grouped - grouped.mean(-1, true);
      const Tensor normed = (centred / (centred.square().mean(-1, true) + 1e-5).sqrt()).reshape(x.sizes());
      const Tensor want =
          normed * norm.weight.to(at::kDouble).view({1, 12, 1, 1}) + norm.bias.to(at::kDouble).view({1, 12, 1, 1});
      EXPECT_LE(relative_difference(norm(x).to(at::kDouble), want), tolerance) << dtype << " " << height;
      EXPECT_LE(relative_difference(norm.silu(x).to(at::kDouble), want * at::sigmoid(want)), tolerance) << dtype;
      EXPECT_TRUE(norm.silu(x).is_contiguous(at::MemoryFormat::ChannelsLast));
      EXPECT_EQ(norm.silu(x).scalar_type(), dtype);
    }
  }
}

TEST(GroupNorm, FarFromZeroAndNotFinite) {
  const GroupNorm norm(random_weights() / "norm", 4, 2, 1e-5);
  const Tensor far = (at::randn({1, 4, 40, 40}) + 100).contiguous(at::MemoryFormat::ChannelsLast);
  const Tensor want =
      at::group_norm(far.to(at::kDouble), 2, norm.weight.to(at::kDouble), norm.bias.to(at::kDouble), 1e-5);
  EXPECT_LE(relative_difference(norm(far).to(at::kDouble), want), 1e-2);
  Tensor spoiled = at::zeros({1, 4, 3, 3}).contiguous(at::MemoryFormat::ChannelsLast);
  EXPECT_TRUE(at::isfinite(norm.silu(spoiled)).all().item<bool>());
  spoiled[0][1][2][2] = NAN;
  EXPECT_TRUE(at::isnan(norm.silu(spoiled)[0][1]).all().item<bool>());
}

TEST(GroupNorm, SiluOverItsWholeRange) {
  // one channel of scale 1 and shift 0 by hand: the norm of a line is itself up to a factor
  const Tensor line =
      at::linspace(-120, 120, 4096, at::kFloat).view({1, 1, 64, 64}).contiguous(at::MemoryFormat::ChannelsLast);
  const double spread = line.to(at::kDouble).std(/*unbiased=*/false).item<double>();
  const Tensor weight = at::full({1}, spread), bias = at::zeros({1});
  const Tensor got = cpu::group_norm(line, 1, weight, bias, 0.0, Activation::kSilu).to(at::kDouble);
  const Tensor want = line.to(at::kDouble) * at::sigmoid(line.to(at::kDouble));
  EXPECT_LE((got - want).abs().max().item<double>(), 2e-5);
  EXPECT_TRUE(at::isfinite(got).all().item<bool>());
}

// ---- packed weights against ATen's plain ones ----------------------------------------------------------------------

struct Dtype {
  at::ScalarType type;
  double tolerance;  // relative
};
constexpr Dtype kDtypes[] = {{at::kFloat, 2e-5}, {at::kBFloat16, 1e-2}};

// The fast kernel against the definition in float64; far from zero, too, where a sum of squares would lose the spread.
TEST(LayerNorm, IsTheDefinition) {
  for (const auto& [dtype, tolerance] : {std::pair{at::kFloat, 1e-6}, {at::kBFloat16, 4e-3}, {at::kHalf, 1e-3}}) {
    for (const int64_t width : {1, 7, 16, 320, 1285}) {
      const LayerNorm norm(Weights(random_source("nn/", 3, at::kFloat), at::kCPU, dtype) / "norm", width, 1e-5);
      for (const double offset : {0.0, 100.0}) {
        const Tensor x = (at::randn({2, 33, width}) * 3 + offset).to(dtype), wide = x.to(at::kDouble);
        const Tensor centred = wide - wide.mean(-1, true);
        const Tensor want = centred / (centred.square().mean(-1, true) + 1e-5).sqrt() * norm.weight.to(at::kDouble) +
                            norm.bias.to(at::kDouble);
        EXPECT_LE(relative_difference(norm(x).to(at::kDouble), want), offset == 0 ? tolerance : 5 * tolerance)
            << dtype << " " << width << " " << offset;
        EXPECT_EQ(norm(x).scalar_type(), dtype);
        EXPECT_EQ(norm(x).sizes(), x.sizes());
      }
    }
  }
}

TEST(LayerNorm, OtherLayoutsAndWhatIsNotFinite) {
  const LayerNorm norm(random_weights() / "norm", 12, 1e-5);
  const Tensor x = at::randn({5, 12, 9}), turned = x.transpose(1, 2);
  EXPECT_LE(relative_difference(norm(turned), norm(turned.contiguous())), 1e-6);
  EXPECT_EQ(norm(at::zeros({0, 12})).sizes(), (Shape{0, 12}));
  Tensor spoiled = at::zeros({3, 12});
  EXPECT_TRUE(at::isfinite(norm(spoiled)).all().item<bool>());
  spoiled[1][2] = NAN;
  EXPECT_TRUE(at::isnan(norm(spoiled)[1]).all().item<bool>());
  EXPECT_TRUE(at::isfinite(norm(spoiled)[2]).all().item<bool>());
}

TEST(Packed, LinearsOfOddSizes) {
  at::manual_seed(1);
  for (const Dtype& dtype : kDtypes) {
    for (const auto& [in, out] : {std::pair<int64_t, int64_t>{1, 1}, {3, 5}, {17, 33}, {320, 64}, {64, 2}}) {
      const Weights w = Weights(random_source("nn/", 3, at::kFloat), at::kCPU, dtype.type) / "linear";
      for (const Bias bias : {Bias::kYes, Bias::kNo}) {
        const Linear plain(w, in, out, bias), packed(w.packed(), in, out, bias);
        const Tensor residual = at::randn({1, 7, out}).to(dtype.type);
        ASSERT_EQ(plain.form, Linear::Form::kPlain);
        ASSERT_TRUE(packed.form == Linear::Form::kPacked || dtype.type != at::kFloat);
        for (const int64_t batch : {1, 2, 3, 8}) {
          const Tensor x = at::randn({batch, 7, in}).to(dtype.type);
          EXPECT_LE(relative_difference(packed(x).to(at::kFloat), plain(x).to(at::kFloat)), dtype.tolerance);
          EXPECT_EQ(packed(x).sizes(), plain(x).sizes());
          const Tensor more = residual.expand({batch, 7, out}).contiguous();
          EXPECT_LE(relative_difference(packed(x, more).to(at::kFloat), plain(x, more).to(at::kFloat)),
                    dtype.tolerance);
          const Tensor row = x.select(1, 0);
          EXPECT_LE(relative_difference(packed(row).to(at::kFloat), plain(row).to(at::kFloat)), dtype.tolerance);
        }
      }
    }
  }
}

// Nothing, a shift for all and for each of the batch, a residual, and both.
std::vector<Added> additions(const Tensor& like) {
  const auto options = like.options().memory_format(std::nullopt);
  const Tensor one = at::randn({1, like.size(1)}).to(options),
               each = at::randn({like.size(0), like.size(1)}).to(options);
  const Tensor residual = at::randn(like.sizes()).to(options).contiguous(at::MemoryFormat::ChannelsLast);
  return {{}, {one, {}}, {each, {}}, {{}, residual}, {one, residual}, {each, residual}};
}

TEST(Packed, GegluOfALinear) {
  at::manual_seed(1);
  for (const Dtype& dtype : kDtypes) {
    const Weights w = Weights(random_source("nn/", 3, at::kFloat), at::kCPU, dtype.type) / "linear";
    for (const int64_t out : {128, 140}) {
      const Linear plain(w, 64, out), packed(w.packed(), 64, out);
      const Tensor x = at::randn({2, 9, 64}).to(dtype.type);
      const Tensor got = packed.geglu(x), want = geglu(plain(x));
      ASSERT_EQ(got.sizes(), want.sizes());
      EXPECT_LE(relative_difference(got.to(at::kFloat), want.to(at::kFloat)), 2 * dtype.tolerance);
      Linear changed = packed, changed_plain = plain;
      changed.changes =
          changed_plain.changes = {{at::randn({2, 64}).to(dtype.type), at::randn({out, 2}).to(dtype.type), 0.5}};
      EXPECT_LE(relative_difference(changed.geglu(x).to(at::kFloat), geglu(changed_plain(x)).to(at::kFloat)),
                2 * dtype.tolerance);
    }
  }
}

TEST(Packed, ConvolutionsOfOddSizes) {
  at::manual_seed(1);
  for (const Dtype& dtype : kDtypes) {
    const Weights w = Weights(random_source("nn/", 3, at::kFloat), at::kCPU, dtype.type) / "conv";
    for (const Conv2d::Shape2d& shape : {Conv2d::Shape2d{.in = 4, .out = 32},
                                         {.in = 32, .out = 4},
                                         {.in = 3, .out = 5, .stride = 2},
                                         {.in = 16, .out = 16, .stride = 2, .padding = 0},
                                         {.in = 17, .out = 9, .kernel = 1, .padding = 0}}) {
      const Conv2d plain(w, shape), packed(w.packed(), shape);
      for (const auto& [batch, height, width] :
           {std::tuple<int64_t, int64_t, int64_t>{1, 3, 3}, {2, 8, 8}, {3, 5, 13}, {8, 9, 7}}) {
        const Tensor x =
            at::randn({batch, shape.in, height, width}).to(dtype.type).contiguous(at::MemoryFormat::ChannelsLast);
        const Tensor got = packed(x), want = plain(x);
        ASSERT_EQ(got.sizes(), want.sizes());
        EXPECT_TRUE(got.is_contiguous(at::MemoryFormat::ChannelsLast));
        EXPECT_LE(relative_difference(got.to(at::kFloat), want.to(at::kFloat)), dtype.tolerance);
        for (const Added& added : additions(want)) {
          EXPECT_LE(relative_difference(packed(x, added).to(at::kFloat), plain(x, added).to(at::kFloat)),
                    dtype.tolerance);
        }
      }
    }
  }
}

// Against float64, at sizes that are and are not whole tiles and blocks of columns, smaller than one tile, and enlarged
// by nearest neighbour.
TEST(Winograd, IsTheConvolution) {
  at::manual_seed(1);
  for (const Dtype& dtype : {Dtype{at::kFloat, 8e-6}, Dtype{at::kBFloat16, 4e-3}}) {
    for (const auto& [in, out] : {std::pair<int64_t, int64_t>{64, 64}, {80, 96}, {192, 144}, {656, 80}}) {
      const Tensor weight = (at::randn({out, in, 3, 3}) / std::sqrt(9.0 * static_cast<double>(in))).to(dtype.type);
      const Tensor panels = cpu::pack_panels(weight, at::kFloat).weight;
      for (const auto& [batch, height, width, to_height, to_width] :
           {std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t>{1, 1, 1, 1, 1},
            {2, 4, 8, 4, 8},
            {3, 5, 11, 5, 11},
            {8, 6, 3, 6, 3},
            {2, 7, 5, 14, 10},
            {1, 7, 5, 13, 9},
            {1, 70, 66, 70, 66}}) {
        const Tensor x =
            at::randn({batch, in, height, width}).to(dtype.type).contiguous(at::MemoryFormat::ChannelsLast);
        const Tensor large = at::upsample_nearest2d(x, {to_height, to_width}).to(at::kDouble);
        const Tensor convolved = at::conv2d(large, weight.to(at::kDouble), {}, 1, 1);
        for (const Added& added : additions(convolved.to(dtype.type))) {
          const Tensor shift = added.shift.defined() ? added.shift.to(at::kFloat) : at::zeros({1, out});
          Tensor want = convolved + shift.to(at::kDouble).unsqueeze(-1).unsqueeze(-1);
          if (added.residual.defined()) want = want + added.residual.to(at::kDouble);
          const Tensor got = cpu::winograd_convolution({x, to_height, to_width}, panels, {shift, added.residual});
          EXPECT_TRUE(got.is_contiguous(at::MemoryFormat::ChannelsLast));
          EXPECT_LE(relative_difference(got.to(at::kDouble), want), dtype.tolerance) << in << " " << height;
        }
      }
    }
  }
}

// The same bits where float32 multiplies: a pixel is normalised once by each thread that needs it. Of sizes that take
// one step and several, on all threads together and on each by itself.
TEST(Winograd, OfTheNormWithSilu) {
  at::manual_seed(2);
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const Weights w = Weights(random_source("nn/", 3, at::kFloat), at::kCPU, dtype);
    for (const auto& [in, out, batch, height, width] :
         {std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t>{64, 80, 1, 1, 1},
          {64, 80, 2, 4, 8},
          {64, 80, 3, 5, 11},
          {64, 80, 8, 6, 3},
          {64, 80, 1, 131, 150},
          {64, 80, 3, 61, 97},
          {192, 352, 2, 45, 61}}) {
      const GroupNorm norm(w / "norm", in, 32, 1e-5);
      const Conv2d plain(w / "conv", {.in = in, .out = out}), fast(w.packed() / "conv", {.in = in, .out = out});
      const Tensor x = (at::randn({batch, in, height, width}) + 1).to(dtype).contiguous(at::MemoryFormat::ChannelsLast);
      EXPECT_LE(relative_difference(fast(x).to(at::kFloat), plain(x).to(at::kFloat)),
                dtype == at::kFloat ? 1e-5 : 1e-2);
      for (const Added& added : additions(at::zeros({batch, out, height, width}, dtype))) {
        const Tensor at_once = fast.of_norm_silu(norm, x, added), after = fast(norm.silu(x), added);
        // Matrix tiles get a SiLU of their own, which is rounded as well to bfloat16.
        if (fast.form == Conv2d::Form::kTiles)
          EXPECT_LE(relative_difference(at_once.to(at::kFloat), after.to(at::kFloat)), 8e-3);
        else
          EXPECT_TRUE(at::equal(at_once, after)) << height << " " << dtype;
      }
    }
  }
}

TEST(Winograd, TakesTheResidualsMemoryWhereItMay) {
  const Weights w = Weights(random_source("nn/", 3, at::kFloat), at::kCPU, at::kFloat).packed();
  const Conv2d conv(w / "conv", {.in = 64, .out = 80});
  for (const int64_t side : {9, 150}) {
    const Tensor x = at::randn({1, 64, side, side}).contiguous(at::MemoryFormat::ChannelsLast);
    const Tensor residual = at::randn({1, 80, side, side}).contiguous(at::MemoryFormat::ChannelsLast);
    const Tensor before = residual.clone();
    const Tensor want = conv(x, {.shift = {}, .residual = residual});
    EXPECT_TRUE(at::equal(residual, before));
    const Tensor got = conv(x, {.shift = {}, .residual = residual, .may_overwrite = true});
    EXPECT_TRUE(at::equal(got, want));
    EXPECT_EQ(got.is_same(residual), conv.form == Conv2d::Form::kWinograd);
  }
}

// Only of an input that nobody else holds.
TEST(ResnetBlock, LeavesAnInputThatIsHeld) {
  const Weights w = Weights(random_source("nn/", 3, at::kFloat), at::kCPU, at::kFloat).packed();
  const ResnetBlock block(w / "resnet", {.in = 64, .out = 64, .groups = 32, .eps = 1e-5});
  const Tensor x = at::randn({1, 64, 9, 7}).contiguous(at::MemoryFormat::ChannelsLast), before = x.clone();
  const Tensor want = block(x), of_a_view = block(x.narrow(0, 0, 1));
  EXPECT_TRUE(at::equal(x, before));
  EXPECT_TRUE(at::equal(of_a_view, want));
  Tensor given = x.clone(at::MemoryFormat::ChannelsLast);
  const void* const memory = given.const_data_ptr();
  const Tensor got = block(std::move(given));
  EXPECT_TRUE(at::equal(got, want));
  EXPECT_EQ(got.const_data_ptr() == memory, block.conv2.form == Conv2d::Form::kWinograd);
}

TEST(Winograd, InTheLayerWhereItPays) {
  const Weights w = Weights(random_source("nn/", 3, at::kFloat), at::kCPU, at::kFloat) / "conv";
  const Conv2d::Shape2d shape{.in = 64, .out = 80};
  const Conv2d plain(w, shape), fast(w.packed(), shape);
  if (fast.form != Conv2d::Form::kWinograd) GTEST_SKIP() << "no AVX512 here";
  EXPECT_EQ(fast.weight.nbytes(), static_cast<std::size_t>(packed_bytes({80, 64, 3, 3}, at::kFloat)));
  const Tensor x = at::randn({2, 64, 9, 6}).contiguous(at::MemoryFormat::ChannelsLast);
  EXPECT_LE(relative_difference(fast(x), plain(x)), 1e-5);
  EXPECT_LE(relative_difference(fast.upsampled(x, 17, 12), plain.upsampled(x, 17, 12)), 1e-5);
  Conv2d changed = fast;
  changed.changes = {{at::randn({2, 64, 3, 3}), at::randn({80, 2}), 0.5}};
  Conv2d changed_plain = plain;
  changed_plain.changes = changed.changes;
  EXPECT_LE(relative_difference(changed(x), changed_plain(x)), 1e-5);
  EXPECT_LE(relative_difference(changed.upsampled(x, 18, 12), changed_plain.upsampled(x, 18, 12)), 1e-5);
  Tensor spoiled = x.clone();
  spoiled[1][3][4][4] = NAN;
  EXPECT_FALSE(at::isfinite(fast(spoiled)[1].select(1, 4).select(1, 4)).any().item<bool>());
  EXPECT_TRUE(at::isfinite(fast(spoiled)[0]).all().item<bool>());
  EXPECT_NE(Conv2d(w.packed(), {.in = 64, .out = 80, .stride = 2}).form, Conv2d::Form::kWinograd);
}

// The same weights serve pictures that are too small for it.
TEST(Winograd, OnlyOfPicturesWhereItPays) {
  EXPECT_TRUE(cpu::pays_winograd(1, 64, 64));
  EXPECT_TRUE(cpu::pays_winograd(2, 8, 8));
  EXPECT_TRUE(cpu::pays_winograd(2, 4, 4));
  EXPECT_FALSE(cpu::pays_winograd(2, 1, 1));
  EXPECT_FALSE(cpu::pays_winograd(1, 1, 40));
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const Weights w = Weights(random_source("nn/", 3, at::kFloat), at::kCPU, dtype);
    const GroupNorm norm(w / "norm", 64, 32, 1e-5);
    const Conv2d plain(w / "conv", {.in = 64, .out = 80}), fast(w.packed() / "conv", {.in = 64, .out = 80});
    for (const int64_t side : {1, 2, 4, 9}) {
      const Tensor x = at::randn({2, 64, side, side}).to(dtype).contiguous(at::MemoryFormat::ChannelsLast);
      const auto near = [&](const Tensor& got, const Tensor& want) {
        EXPECT_LE(relative_difference(got.to(at::kFloat), want.to(at::kFloat)), dtype == at::kFloat ? 1e-5 : 2e-2)
            << side;
      };
      for (const Added& added : additions(at::zeros({2, 80, side, side}, dtype))) {
        near(fast(x, added), plain(x, added));
        near(fast.of_norm_silu(norm, x, added), plain.of_norm_silu(norm, x, added));
      }
      near(fast.upsampled(x, 2 * side, side), plain.upsampled(x, 2 * side, side));
    }
  }
}

// Against what the rounded numbers give in float64, and against what was not rounded.
TEST(Int8, IsTheProductOfWhatIsRounded) {
  at::manual_seed(1);
  if (!cpu::can_int8(64, 64)) GTEST_SKIP() << "no AVX512-VNNI here";
  for (const Dtype& dtype : {Dtype{at::kFloat, 1e-4}, Dtype{at::kBFloat16, 6e-3}}) {
    for (const auto& [rows, in, out] : {std::tuple<int64_t, int64_t, int64_t>{1, 64, 64},
                                        {7, 68, 65},
                                        {97, 320, 130},
                                        {200, 1280, 77},
                                        {97, 320, 128},
                                        {300, 1280, 96},
                                        {130, 64, 32}}) {
      Tensor x = at::randn({rows, in}).to(dtype.type);
      if (rows > 1) x[0].zero_();
      const Tensor weight = at::randn({out, in}).to(dtype.type);
      const auto rounded = [](const Tensor& t) {
        const Tensor scale = (t.to(at::kDouble).abs().amax(1, true) / 127).clamp_min(1e-30);
        return at::round(t.to(at::kDouble) / scale) * scale;
      };
      for (const Added& added : additions(at::empty({1, out, rows, 1}, dtype.type))) {
        const Tensor bias = added.shift.defined() ? added.shift[0] : Tensor();
        const Tensor residual =
            added.residual.defined() ? added.residual[0].permute({1, 2, 0}).flatten(0, 1) : Tensor();
        Tensor want = rounded(x).matmul(rounded(weight).t()),
               near = x.to(at::kDouble).matmul(weight.to(at::kDouble).t());
        for (Tensor* t : {&want, &near}) {
          if (bias.defined()) t->add_(bias.to(at::kDouble));
          if (residual.defined()) t->add_(residual.to(at::kDouble));
        }
        const Tensor got = cpu::int8_linear(x, cpu::pack_int8(weight), bias, residual).to(at::kDouble);
        // A half may round to either side, as the sanitizers' build without fused multiply-adds does: single results
        // may lie one step of one input or weight apart.
        EXPECT_LE((got - want).norm().item<double>(), dtype.tolerance * want.norm().item<double>() + 1e-12);
        EXPECT_LE((got - near).norm().item<double>(), 0.02 * near.norm().item<double>() + 1e-12) << in;
      }
    }
  }
  Tensor spoiled = at::ones({2, 64});
  spoiled[1][5] = NAN;
  const Tensor got = cpu::int8_linear(spoiled, cpu::pack_int8(at::ones({64, 64})), {}, {});
  EXPECT_LE((got[0] - 64).abs().max().item<double>(), 1e-4);
  EXPECT_FALSE(at::isfinite(got[1]).any().item<bool>());
}

TEST(Int8, OnlyWhereALayerAsksForIt) {
  if (!cpu::can_int8(64, 64)) GTEST_SKIP() << "no AVX512-VNNI here";
  const Weights w = random_weights().packed().allowing_int8() / "linear";
  EXPECT_EQ(Linear(w, 64, 64).form, Linear::Form::kPacked);
  EXPECT_EQ(Linear(w.int8(), 64, 64).form, Linear::Form::kInt8);
  EXPECT_EQ(Linear(w.int8(), 62, 64).form, Linear::Form::kPacked);
  EXPECT_EQ(Linear((random_weights().packed() / "linear").int8(), 64, 64).form, Linear::Form::kPacked);
}

TEST(Exponentials, OverTheirWholeRange) {
  for (const int64_t count : {1, 15, 16, 31, 33, 256, 4001}) {
    const Tensor scores = at::linspace(-60, 0.5, count), want = at::exp2(scores.to(at::kDouble) * 2 - 1);
    Tensor rounded = at::empty({count}, at::kBFloat16);
    EXPECT_EQ(cpu::largest_of(scores.const_data_ptr<float>(), count), scores.max().item<float>());
    const Tensor falling = scores.flip(0).contiguous();
    EXPECT_EQ(cpu::largest_of(falling.const_data_ptr<float>(), count), scores.max().item<float>());
    const double sum =
        cpu::exponentials(scores.const_data_ptr<float>(), rounded.mutable_data_ptr<at::BFloat16>(), count, 2.0f, 1.0f);
    EXPECT_NEAR(sum / want.sum().item<double>(), 1, 1e-4);
    const Tensor error = (rounded.to(at::kDouble) - want) / (want + 1e-37);
    EXPECT_LE(error.abs().max().item<double>(), 4.1e-3) << count;  // 2^-8 and what the cubic leaves
  }
  const float scores[] = {-1e30f, -200.0f, NAN};
  at::BFloat16 out[3];
  EXPECT_TRUE(std::isnan(cpu::exponentials(scores, out, 3, 1.0f, 0.0f)));
  EXPECT_LE(static_cast<float>(out[0]), 2e-38f);
  EXPECT_LE(static_cast<float>(out[1]), 2e-38f);
}

// A softmax in two parts of rows, the second with larger scores, against float64.
TEST(Softmax, OfColumnsInParts) {
  if (!cpu::has_float_products()) GTEST_SKIP() << "no AVX2 here";
  at::manual_seed(1);
  const int64_t width = cpu::run_columns();
  for (const int64_t columns : {int64_t{1}, int64_t{9}, width / 2, width - 1, width}) {
    for (const int64_t rows : {1, 7, 256}) {
      Tensor scores = at::randn({2 * rows, width}) * 20, shift = at::full({width}, -INFINITY),
             total = at::zeros({width});
      scores.narrow(0, rows, rows).add_(10);
      Tensor shares = scores.clone(), factor = at::zeros({width});
      for (int64_t part = 0; part < 2; ++part) {
        const cpu::ScoreStrip strip{shares.mutable_data_ptr<float>() + part * rows * width, rows, columns};
        const Tensor before = shift.clone();
        const bool rose =
            cpu::raise_shifts(strip, 0.5f, shift.mutable_data_ptr<float>(), factor.mutable_data_ptr<float>());
        EXPECT_EQ(rose, shift.gt(before).any().item<bool>());
        total.mul_(factor);
        shares.narrow(0, 0, part * rows).mul_(factor);
        cpu::exponentials_in_place(strip, 0.5f, shift.const_data_ptr<float>(), total.mutable_data_ptr<float>());
      }
      const auto there = [&](const Tensor& x) { return x.narrow(-1, 0, columns).to(at::kDouble); };
      const Tensor largest = there(scores).amax(0) * 0.5, want = at::exp2(there(scores) * 0.5 - largest);
      EXPECT_TRUE(at::allclose(there(shift), largest, 1e-7, 0));
      // 1e-5: float32's own error in an exponent of a hundred
      EXPECT_TRUE(at::allclose(there(shares), want, 1e-5, 1e-29)) << columns << " " << rows;
      EXPECT_TRUE(at::allclose(there(total), want.sum(0), 2e-6, 0)) << columns << " " << rows;
      EXPECT_TRUE(shift.narrow(0, columns, width - columns).eq(-INFINITY).all().item<bool>()) << "beyond the columns";
    }
  }
}

TEST(Softmax, OfScoresFarApartAndNotFinite) {
  if (!cpu::has_float_products()) GTEST_SKIP() << "no AVX2 here";
  const int64_t width = cpu::run_columns();
  Tensor scores = at::zeros({3, width}), total = at::zeros({width});
  const Tensor shift = at::zeros({width});
  scores[0].fill_(-1e30f);
  scores[1].fill_(-200.0f);
  scores[2][5] = NAN;
  cpu::exponentials_in_place({scores.mutable_data_ptr<float>(), 3, width}, 1.0f, shift.const_data_ptr<float>(),
                             total.mutable_data_ptr<float>());
  EXPECT_TRUE(scores.narrow(0, 0, 2).le(1e-30).all().item<bool>());
  EXPECT_TRUE(at::isnan(scores[2][5]).item<bool>());
  EXPECT_TRUE(at::isnan(total[5]).item<bool>());
  EXPECT_NEAR(total[6].item<float>(), 1, 1e-6);
}

// [depth, columns] → [runs, depth, run_columns()], NaN beyond the columns.
Tensor in_runs(const Tensor& b) {
  const int64_t width = cpu::run_columns(), runs = (b.size(1) + width - 1) / width;
  return at::constant_pad_nd(b, {0, runs * width - b.size(1)}, NAN)
      .view({b.size(0), runs, width})
      .transpose(0, 1)
      .contiguous();
}

TEST(Products, OfAllSizes) {
  if (!cpu::has_float_products()) GTEST_SKIP() << "no AVX2 here";
  at::manual_seed(1);
  for (const auto& [rows, columns, depth] : {std::tuple<int64_t, int64_t, int64_t>{1, 1, 2},
                                             {7, 16, 4},
                                             {13, 17, 40},
                                             {33, 40, 6},
                                             {10, 77, 80},
                                             {12, 64, 514},
                                             {29, 63, 600},
                                             {5, 160, 256},
                                             {256, 250, 38}}) {
    constexpr int64_t kBeside = 3;  // columns of others
    const Tensor a = at::randn({rows, depth}), b = at::randn({depth, columns}),
                 first = at::randn({rows, columns + kBeside});
    const int64_t run = cpu::run_columns();
    const cpu::ProductSizes sizes{rows, columns, depth, depth, run, columns + kBeside, depth * run},
        of_pairs{rows, columns, depth, depth, columns, columns + kBeside};
    const auto check = [&](const Tensor& x, const Tensor& y, const Tensor& got, bool adds) {
      const Tensor product = x.to(at::kDouble).matmul(y.to(at::kDouble));
      const Tensor sums = got.narrow(1, 0, columns).to(at::kDouble);
      const Tensor want = adds ? product + first.narrow(1, 0, columns).to(at::kDouble) : product;
      EXPECT_LE(relative_difference(sums, want), 1e-6) << rows << " " << columns << " " << depth;
      EXPECT_TRUE(at::equal(got.narrow(1, columns, kBeside), first.narrow(1, columns, kBeside)));
    };
    for (const bool adds : {false, true}) {
      Tensor c = first.clone();
      cpu::multiply(sizes, a.const_data_ptr<float>(), in_runs(b).const_data_ptr<float>(), c.mutable_data_ptr<float>(),
                    adds);
      check(a, b, c, adds);
      if (cpu::pair_unit() != cpu::PairUnit::kAvx512) continue;
      const Tensor a2 = a.to(at::kBFloat16), b2 = b.to(at::kBFloat16);
      const Tensor pairs = b2.view({depth / 2, 2, columns}).transpose(1, 2).contiguous();
      c = first.clone();
      cpu::multiply(of_pairs, a2.const_data_ptr<at::BFloat16>(), pairs.const_data_ptr<at::BFloat16>(),
                    c.mutable_data_ptr<float>(), adds);
      check(a2, b2, c, adds);
    }
  }
  cpu::release_products();
}

TEST(Packed, ChangesAreComputedBesideThem) {
  const Weights w = Weights(random_source("nn/", 3, at::kFloat), at::kCPU, at::kFloat) / "linear";
  Linear plain(w, 6, 4), packed(w.packed(), 6, 4);
  plain.changes = packed.changes = {{at::randn({2, 6}), at::randn({4, 2}), 0.5}};
  const Tensor x = at::randn({3, 6});
  EXPECT_LE(relative_difference(packed(x), plain(x)), 2e-6);
}

TEST(Packed, NotWithPlainKernels) {
  set_kernels(Kernels::kPlain);
  EXPECT_EQ(Linear(random_weights().packed() / "linear", 6, 4).form, Linear::Form::kPlain);
  set_kernels(Kernels::kFast);
}

TEST(Geglu, IsTheDefinition) {
  for (const Dtype& dtype : kDtypes) {
    for (const int64_t width : {1, 3, 16, 37, 640}) {
      const Tensor x = (at::randn({2, 5, 2 * width}) * 3).to(dtype.type);
      const std::vector<Tensor> halves = x.to(at::kDouble).chunk(2, -1);
      const Tensor want = halves[0] * at::gelu(halves[1]), got = cpu::geglu(x).to(at::kDouble);
      EXPECT_LE(relative_difference(got, want), dtype.type == at::kFloat ? 1e-6 : 4e-3) << width;
      EXPECT_EQ(geglu(x).scalar_type(), dtype.type);
    }
  }
  const Tensor far = at::cat({at::ones({1, 4001}), at::linspace(-50, 50, 4001).unsqueeze(0)}, 1);
  const Tensor line = at::linspace(-50, 50, 4001, at::kDouble);
  EXPECT_LE((cpu::geglu(far).to(at::kDouble) - at::gelu(line)).abs().max().item<double>(), 2e-6);
  const Tensor spoiled = at::full({1, 4}, NAN);
  EXPECT_TRUE(at::isnan(cpu::geglu(spoiled)).all().item<bool>());
}

TEST(Attention, IsTheDefinition) {
  const int64_t heads = 3, width = 8, tokens = 5, keys = 7;
  const Tensor q = at::randn({2, tokens, heads * width}), k = at::randn({2, keys, heads * width}),
               v = at::randn({2, keys, heads * width});
  const Tensor got = attention(q, k, v, heads);
  for (int64_t h = 0; h < heads; ++h) {
    const auto head = [&](const Tensor& x) { return x.narrow(2, h * width, width); };
    const Tensor scores = head(q).matmul(head(k).transpose(1, 2)) / std::sqrt(static_cast<double>(width));
    EXPECT_LE(relative_difference(head(got), at::softmax(scores, -1).matmul(head(v))), 1e-5);
  }
}

// The blocked kernel against float64: sizes with rests in every block, odd numbers of keys, and rows whose scores are
// too large for a bound.
TEST(Attention, InBlocks) {
  at::manual_seed(1);
  for (const auto& [dtype, tolerance] : {std::pair{at::kFloat, 1e-4}, {at::kBFloat16, 1e-2}}) {
    for (const auto& [tokens, keys, heads, width, gain] :
         {std::tuple<int64_t, int64_t, int64_t, int64_t, double>{2048, 2048, 2, 40, 1.0},
          {2305, 2049, 1, 64, 1.0},
          {2048, 2500, 3, 8, 3.0},
          {2100, 2051, 1, 40, 12.0},
          {2048, 2048, 1, 160, 0.1},
          {300, 1000, 2, 40, 30.0},
          {130, 77, 2, 80, 1.0},
          {256, 256, 1, 510, 1.0}}) {
      const auto draw = [&](int64_t rows, double by) { return (at::randn({2, rows, heads * width}) * by).to(dtype); };
      const Tensor q = draw(tokens, gain), k = draw(keys, gain), v = draw(keys, 1);
      if (!cpu::can_attend(q, k, v, heads)) continue;
      const Tensor got = cpu::attention(q, k, v, heads).to(at::kFloat);
      for (int64_t h = 0; h < heads; ++h) {
        const auto head = [&](const Tensor& x) { return x.narrow(2, h * width, width).to(at::kDouble); };
        const Tensor scores = head(q).matmul(head(k).transpose(1, 2)) / std::sqrt(static_cast<double>(width));
        const Tensor want = at::softmax(scores, -1).matmul(head(v));
        EXPECT_LE(relative_difference(head(got), want), tolerance)
            << dtype << " " << tokens << " " << keys << " " << width << " " << gain;
      }
    }
  }
}

TEST(Attention, InBlocksWhatIsNotFiniteStaysSo) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    Tensor q = at::randn({1, 2048, 8}).to(dtype), k = at::randn({1, 2048, 8}).to(dtype), v = k.clone();
    if (!cpu::can_attend(q, k, v, 1)) continue;
    q[0][5][3] = NAN;
    EXPECT_FALSE(at::isfinite(cpu::attention(q, k, v, 1)[0][5]).any().item<bool>());
    k[0][700][1] = NAN;
    EXPECT_FALSE(at::isfinite(cpu::attention(q, k, v, 1)).any().item<bool>());
  }
}

TEST(Attention, CausalMaskHidesLaterTokens) {
  const Tensor x = at::randn({1, 6, 8});
  const Tensor whole = attention(x, x, x, 2, AttentionMask::kCausal);
  const Tensor first = x.narrow(1, 0, 3);
  EXPECT_LE(relative_difference(attention(first, first, first, 2, AttentionMask::kCausal), whole.narrow(1, 0, 3)),
            1e-5);
}

TEST(Tokens, ThereAndBackWithoutACopy) {
  const Tensor x = at::randn({2, 3, 4, 5}).contiguous(at::MemoryFormat::ChannelsLast);
  const Tensor tokens = to_tokens(x);
  EXPECT_EQ(to_string(tokens.sizes()), "[2, 20, 3]");
  EXPECT_EQ(tokens.data_ptr(), x.data_ptr());
  EXPECT_EQ(tokens[1][7][2].item<float>(), x[1][2][1][2].item<float>());
  EXPECT_TRUE(at::equal(from_tokens(tokens, 4, 5), x));
  EXPECT_EQ(from_tokens(tokens, 4, 5).data_ptr(), x.data_ptr());
}

TEST(Upsample, NearestToAnySize) {
  const Upsample up(random_weights() / "up", 4);
  const Tensor x = at::arange(2 * 3 * 4, at::kFloat).view({1, 4, 2, 3});
  for (const auto& [height, width] : {std::pair<int64_t, int64_t>{4, 6}, {3, 5}}) {
    std::vector<Tensor> columns;
    Tensor big = at::empty({1, 4, height, width});
    for (int64_t i = 0; i < height; ++i)
      for (int64_t j = 0; j < width; ++j)
        big.select(2, i).select(2, j).copy_(x.select(2, i * 2 / height).select(2, j * 3 / width));
    EXPECT_LE(relative_difference(up(x, height, width), up.conv(big)), 1e-6);
  }
}

TEST(Downsample, PaddingZeroPadsBottomAndRight) {
  const Downsample down(random_weights() / "down", 2, 0);
  const Tensor x = at::randn({1, 2, 6, 4});
  const Tensor padded = at::zeros({1, 2, 7, 5});
  padded.narrow(2, 0, 6).narrow(3, 0, 4).copy_(x);
  const Tensor want =
      at::conv2d(padded, down.conv.weight, down.conv.bias, /*stride=*/at::IntArrayRef{2}, at::IntArrayRef{0});
  EXPECT_EQ(to_string(down(x).sizes()), "[1, 2, 3, 2]");
  EXPECT_LE(relative_difference(down(x), want), 1e-6);
}

TEST(ResnetBlock, OutputScaleDividesTheSum) {
  const ResnetSpec spec = {.in = 4, .out = 8, .time_width = 16, .groups = 2, .eps = 1e-5};
  ResnetSpec scaled = spec;
  scaled.output_scale = 1.25;
  const Tensor x = at::randn({1, 4, 5, 5}), time = at::randn({1, 16});
  const Tensor plain = ResnetBlock(random_weights(), spec)(x, time);
  EXPECT_LE(relative_difference(ResnetBlock(random_weights(), scaled)(x, time) * 1.25, plain), 1e-6);
  EXPECT_GT(relative_difference(ResnetBlock(random_weights(), spec)(x, time + 1), plain), 1e-3);
}

TEST(ConfigReader, TypesRangesAndUnknownWords) {
  const json file = {{"a", 3}, {"b", "x"}, {"c", {1, 2}}, {"d", nullptr}, {"e", 1e9}, {"f", true}};
  ConfigReader config(file, "file");
  EXPECT_EQ(config.integer("a"), 3);
  EXPECT_EQ(config.integer("d", 7), 7);
  EXPECT_EQ(config.integer("missing", 9), 9);
  EXPECT_EQ(config.integers("a", 2), (std::vector<int64_t>{3, 3}));
  EXPECT_EQ(config.integers("c", 2), (std::vector<int64_t>{1, 2}));
  EXPECT_FALSE(config.given("d"));
  EXPECT_NO_THROW(config.finish());
  config.integer("e");
  config.integer("missing");
  config.word("b", "y", {"y", "z"});
  config.integers("c", 3);
  config.flag("a", false);
  config.only("f", false);
  try {
    config.finish();
    FAIL();
  } catch (const Error& error) {
    ASSERT_EQ(error.faults().size(), 6u);
    EXPECT_EQ(error.faults()[1], "file: missing is missing: expected a whole number from 1 to 1048576");
    EXPECT_EQ(error.faults()[2], "file: b is \"x\": supported: y, z");
  }
  EXPECT_THROW(ConfigReader(json::array(), "file"), Error);
}

}  // namespace
}  // namespace easel
