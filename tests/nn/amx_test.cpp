// Products by matrix tiles, against float64. Skipped where the processor has none.
#include "nn/cpu/amx.h"

#include <cmath>

#include "easel/nn.h"
#include "nn/cpu/amx_attention.h"
#include "nn/cpu/amx_convolution.h"
#include "nn/cpu/amx_linear.h"
#include "nn/cpu/amx_weight.h"
#include "nn/cpu/group_norm.h"
#include "support/golden.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace easel {
namespace {

using namespace testing;
namespace amx = cpu::amx;

constexpr auto kLast = at::MemoryFormat::ChannelsLast;

class Amx : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!amx::can_pack(32, 32)) GTEST_SKIP() << "wants AMX";
    at::manual_seed(1);
  }
};

Tensor in_double(const Tensor& x) { return x.to(at::kDouble); }

// [out, in, places] → [out / 32, in / 32, places, 2, 16, 16, 2].
Tensor in_tiles(const Tensor& weight) {
  const int64_t out = weight.size(0), in = weight.size(1), places = weight.numel() / (out * in);
  return weight.to(at::kBFloat16)
      .reshape({out / 32, 2, 16, in / 32, 16, 2, places})
      .permute({0, 3, 6, 1, 4, 2, 5})
      .flatten();
}

TEST_F(Amx, WeightsInTheOrderOfTheKernel) {
  for (const at::ScalarType stored : {at::kHalf, at::kBFloat16}) {
    for (const Shape& shape : {Shape{32, 32}, Shape{96, 160}, Shape{64, 96, 1, 1}, Shape{64, 96, 3, 3}}) {
      const Tensor weight = at::randn(shape).to(stored);
      const cpu::PackedPanels packed = amx::pack_weight(weight);
      EXPECT_TRUE(packed.finite);
      EXPECT_TRUE(at::equal(packed.weight.flatten(), in_tiles(weight))) << weight.sizes() << " " << stored;
      EXPECT_EQ(packed.weight.size(0), shape[0]);
      Tensor spoiled = weight.clone();
      spoiled.view({-1})[weight.numel() - 1] = NAN;
      EXPECT_FALSE(amx::pack_weight(spoiled).finite);
    }
  }
}

// Rows that are and are not whole tiles, squares and groups; of one chunk and of several, of panels in parts.
TEST_F(Amx, IsTheLinear) {
  for (const auto& [rows, in, out] : {std::array<int64_t, 3>{1, 32, 32},
                                      {16, 64, 64},
                                      {33, 352, 96},
                                      {77, 768, 320},
                                      {145, 5120, 64},
                                      {300, 1312, 128},
                                      {2500, 320, 64}}) {
    const std::string which = c10::str(rows, " ", in, " ", out);
    const Tensor x = at::randn({rows, in}).to(at::kBFloat16), bias = at::randn({out}),
                 residual = at::randn({rows, out}).to(at::kBFloat16);
    const Tensor weight = (at::randn({out, in}) / std::sqrt(static_cast<double>(in))).to(at::kBFloat16);
    const Tensor packed = amx::pack_weight(weight).weight, want = at::linear(in_double(x), in_double(weight));
    const auto near = [&](const Tensor& got, const Tensor& exact) {
      EXPECT_EQ(got.scalar_type(), at::kBFloat16);
      EXPECT_LE(relative_difference(in_double(got), exact), 4e-3) << which;
    };
    near(amx::linear(x, packed, {}, {}), want);
    near(amx::linear(x.view({rows, 1, in}), packed, bias, {}).view({rows, out}), want + in_double(bias));
    near(amx::linear(x, packed, bias, residual), want + in_double(bias) + in_double(residual));
    near(amx::linear(x.t().contiguous().t(), packed, {}, residual), want + in_double(residual));
    if (out % 64 != 0) continue;
    near(amx::geglu(x, packed, bias), geglu(want + in_double(bias)));
  }
}

// Far below zero a gate is as good as zero, relative to itself, too.
TEST_F(Amx, GatesOfAllSizes) {
  const Tensor gates = at::linspace(-12, 12, 32 * 64).view({64, 32}).to(at::kBFloat16);
  Tensor weight = at::zeros({64, 32});
  weight.narrow(0, 32, 32).copy_(at::eye(32));
  Tensor bias = at::zeros({64});
  bias.narrow(0, 0, 32).fill_(1);
  const Tensor got = in_double(amx::geglu(gates, amx::pack_weight(weight.to(at::kBFloat16)).weight, bias));
  const Tensor want = at::gelu(in_double(gates));
  EXPECT_LE(((got - want).abs() / (want.abs() + 1e-30)).masked_select(gates > -5).max().item<double>(), 5e-3);
  EXPECT_LE((got - want).abs().masked_select(gates <= -5).max().item<double>(), 1e-7);
}

struct Picture {
  int64_t batch, in, out, height, width;
};

TEST_F(Amx, IsTheConvolution) {
  for (const Picture& p : {Picture{1, 32, 32, 1, 1},
                           {2, 64, 96, 5, 7},
                           {3, 32, 64, 8, 8},
                           {1, 96, 32, 3, 300},
                           {2, 32, 32, 40, 129},
                           {2, 640, 64, 33, 20},
                           {1, 2560, 32, 16, 16}}) {
    const std::string which = c10::str(p.batch, " ", p.in, " ", p.out, " ", p.height, " ", p.width);
    const Tensor x = at::randn({p.batch, p.in, p.height, p.width}).to(at::kBFloat16).contiguous(kLast);
    const Tensor weight =
        (at::randn({p.out, p.in, 3, 3}) / std::sqrt(9.0 * static_cast<double>(p.in))).to(at::kBFloat16);
    const Tensor packed = amx::pack_weight(weight).weight, zero = at::zeros({1, p.out});
    const auto exact = [&](const Tensor& seen) { return at::conv2d(in_double(seen), in_double(weight), {}, 1, 1); };
    const auto near = [&](const Tensor& got, const Tensor& want, const char* how) {
      ASSERT_EQ(got.sizes(), want.sizes());
      EXPECT_TRUE(got.is_contiguous(kLast));
      EXPECT_LE(relative_difference(in_double(got), want), 4e-3) << which << " " << how;
    };
    near(amx::convolution({x, p.height, p.width}, packed, {.shift = zero, .residual = {}}), exact(x), "alone");

    const Tensor shift = at::randn({p.batch, p.out}), residual = at::randn({p.batch, p.out, p.height, p.width});
    Tensor added = residual.to(at::kBFloat16).contiguous(kLast);
    const Tensor want = exact(x) + in_double(shift).unsqueeze(-1).unsqueeze(-1) + in_double(added);
    const Tensor got =
        amx::convolution({x, p.height, p.width}, packed, {.shift = shift, .residual = added, .may_overwrite = true});
    near(got, want, "with what is added");
    EXPECT_EQ(got.const_data_ptr(), added.const_data_ptr());

    for (const auto& [height, width] : {std::pair{2 * p.height, 2 * p.width}, {p.height + 3, p.width + 1}})
      near(amx::convolution({x, height, width}, packed, {.shift = zero, .residual = {}}),
           exact(at::upsample_nearest2d(x.to(at::kFloat), {height, width})), "brought to another size");

    const cpu::ChannelAffine norm{at::randn({p.batch, p.in}), at::randn({p.batch, p.in})};
    const auto by_pixel = [](const Tensor& c) { return c.unsqueeze(-1).unsqueeze(-1); };
    const Tensor normed = at::silu(x.to(at::kFloat) * by_pixel(norm.scale) + by_pixel(norm.shift)).to(at::kBFloat16);
    near(amx::convolution({x, p.height, p.width, norm}, packed, {.shift = zero, .residual = {}}), exact(normed),
         "of a norm");
  }
}

TEST_F(Amx, WhatIsNotFiniteStaysInItsPlace) {
  Tensor x = at::randn({1, 32, 9, 9}).to(at::kBFloat16).contiguous(kLast);
  x[0][3][4][4] = NAN;
  const Tensor packed = amx::pack_weight(at::randn({32, 32, 3, 3}).to(at::kBFloat16)).weight;
  for (const bool norm : {false, true}) {
    const std::optional<cpu::ChannelAffine> affine =
        norm ? std::optional(cpu::ChannelAffine{at::ones({1, 32}), at::zeros({1, 32})}) : std::nullopt;
    const Tensor y = amx::convolution({x, 9, 9, affine}, packed, {.shift = at::zeros({1, 32}), .residual = {}});
    const Tensor bad = at::isnan(y.to(at::kFloat)).all(1)[0];
    EXPECT_EQ(at::isnan(y.to(at::kFloat)).sum().item<int64_t>(), 9 * 32);
    EXPECT_TRUE(bad.narrow(0, 3, 3).narrow(1, 3, 3).all().item<bool>());
  }
}

struct Heads {
  int64_t batch, heads, tokens, keys, width;
};

Tensor attended(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads) {
  const auto by_head = [heads](const Tensor& x) {
    return in_double(x).view({x.size(0), x.size(1), heads, x.size(2) / heads}).transpose(1, 2);
  };
  return at::scaled_dot_product_attention(by_head(q), by_head(k), by_head(v)).transpose(1, 2).reshape(q.sizes());
}

Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads) {
  Tensor out = at::empty(q.sizes(), q.options());
  amx::attend(q, k, v, {q.size(0), heads, q.size(1), k.size(1), q.size(2) / heads}, out);
  return out;
}

// Scores that a bound serves for, and scores far apart.
TEST_F(Amx, IsTheAttention) {
  for (const Heads& h : {Heads{1, 1, 1, 1, 2},
                         {2, 3, 33, 77, 40},
                         {1, 2, 200, 300, 64},
                         {1, 2, 129, 16, 80},
                         {2, 2, 64, 640, 160},
                         {1, 1, 70, 131, 512},
                         {3, 5, 31, 33, 10}}) {
    for (const double size : {1.0, 12.0}) {
      const auto random = [&](int64_t tokens, double times) {
        return (at::randn({h.batch, tokens, h.heads * h.width}) * times).to(at::kBFloat16);
      };
      const Tensor q = random(h.tokens, size), k = random(h.keys, 1), v = random(h.keys, 1);
      const Tensor want = attended(q, k, v, h.heads);
      const std::string which = c10::str(h.heads, " ", h.tokens, " ", h.keys, " ", h.width, " ", size);
      EXPECT_LE(relative_difference(in_double(attend(q, k, v, h.heads)), want), 1.5e-2) << which;
      EXPECT_LE((in_double(attend(q, k, v, h.heads)) - want).norm().item<double>() / want.norm().item<double>(), 4e-3)
          << which;
    }
  }
}

// Keys that fill no whole tile are padded with zeros, whose scores of zero must not count.
TEST_F(Amx, AttentionToScoresFarBelowZero) {
  for (const int64_t keys : {1, 16, 31, 77, 128, 130, 250}) {
    for (const double size : {1.0, 40.0}) {
      const Tensor q = at::full({1, 40, 64}, -size).to(at::kBFloat16), v = at::randn({1, keys, 64}).to(at::kBFloat16);
      const Tensor k = (at::rand({1, keys, 1}) + 4).expand({1, keys, 64}).to(at::kBFloat16).contiguous();
      EXPECT_LE(relative_difference(in_double(attend(q, k, v, 1)), attended(q, k, v, 1)), 1e-2) << keys << " " << size;
    }
  }
}

TEST_F(Amx, AttentionReadsPartsOfWiderRows) {
  const Tensor qkv = at::randn({2, 150, 3 * 80}).to(at::kBFloat16);
  const std::vector<Tensor> parts = qkv.chunk(3, -1);
  const Tensor want = attend(parts[0].contiguous(), parts[1].contiguous(), parts[2].contiguous(), 2);
  Tensor out = at::empty({2, 150, 80}, at::kBFloat16);
  amx::attend(parts[0], parts[1], parts[2], {2, 2, 150, 150, 40}, out);
  EXPECT_TRUE(at::equal(out, want));
}

TEST_F(Amx, AttentionToWhatIsNotFinite) {
  for (const double bad : {static_cast<double>(NAN), static_cast<double>(INFINITY)}) {
    Tensor q = at::randn({1, 40, 40}).to(at::kBFloat16), k = at::randn({1, 50, 40}).to(at::kBFloat16);
    const Tensor v = at::randn({1, 50, 40}).to(at::kBFloat16);
    q[0][7][3] = bad;
    const Tensor nan = at::isnan(attend(q, k, v, 1).to(at::kFloat)).all(-1)[0];
    EXPECT_TRUE(nan[7].item<bool>());
    EXPECT_EQ(nan.sum().item<int64_t>(), 1);
    k[0][9][1] = bad;
    EXPECT_TRUE(at::isnan(attend(q, k, v, 1).to(at::kFloat)).any().item<bool>());
  }
}

#if defined(__x86_64__)
TEST_F(Amx, TheThreadsArithmeticIsAsBefore) {
  const unsigned before = _mm_getcsr();
  {
    const amx::Tiles tiles;
    EXPECT_NE(_mm_getcsr(), before);
  }
  EXPECT_EQ(_mm_getcsr(), before);
}
#endif

}  // namespace
}  // namespace easel
