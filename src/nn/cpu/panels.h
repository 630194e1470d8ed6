// Linears and convolutions whose weights are kept in sixteen bits, in panels of 64 columns. Where they are not
// multiplied as they are (float16 never, bfloat16 beside bfloat16 by AVX512-BF16), a panel's values are widened on
// their way into the caches and float32's products do the rest.
#pragma once

#include "easel/tensor.h"

namespace easel::cpu {

constexpr int64_t kPanelColumns = 64;  // so that a panel stays in the second-level cache

// The smaller side of a float32 weight up to which, with AVX512, a product by oneDNN takes longer to plan (a
// millisecond) than it gains and ATen's is as fast.
constexpr int64_t kMostOfSmall = 256;

// Whether there are products with such weights for x of dtype float32 or bfloat16, and the sizes fit. Not for small
// weights beside float32; for bfloat16 with AMX in the order of its tiles (amx_weight.h).
bool can_panels(int64_t in, int64_t out, at::ScalarType dtype);

struct PackedPanels {
  Tensor weight;
  bool finite;  // all of its values: looked at on the way
};

// weight [out, in, ...] of float16, bfloat16 or float32 → [out, all others], in the kernel's own order: [out / 64
// blocks, others / 2, 64, 2], the last block as wide as it is. float16 becomes bfloat16 where x is that and the
// processor multiplies it.
PackedPanels pack_panels(const Tensor& weight, at::ScalarType dtype);

// x: [..., in] float32 or bfloat16 → [..., out] of its dtype; bias [out] and residual [..., out] may be undefined. Sums
// and what is added are float32, rounded once.
//
// Why not oneDNN's: of bfloat16, measured on Zen 4, it reaches 0.37 to 0.44 of the 0.47 TFLOP/s that two cores have,
// this 0.39 to 0.46, and no sum between value, gate and product leaves the caches. Beside float32, weights of published
// files take half the memory and are not converted when they are loaded, at oneDNN's rate.
Tensor panel_linear(const Tensor& x, const Tensor& packed, const Tensor& bias, const Tensor& residual);

// geglu(x·weight + bias) in one pass: [..., in] → [..., out / 2] (geglu.h). out / 2 is a multiple of 64.
bool can_panel_geglu(const Tensor& packed);
Tensor panel_geglu(const Tensor& x, const Tensor& packed, const Tensor& bias);

// A convolution as the linear of its patches, gathered a few hundred at a time. Where values are widened, because
// oneDNN's convolutions of bfloat16 take three times as long there; and of Winograd's weights, for pictures that are
// too small for it.
bool can_panel_convolution(at::IntArrayRef weight, at::ScalarType dtype);

struct Patches {
  int64_t kernel, stride, padding;
  int64_t of(int64_t pixels) const { return (pixels + 2 * padding - kernel) / stride + 1; }
};

// x [B, in, height, width] → [B, out, ...], both channels last; bias [out] of any float, and residual as
// panel_linear's.
Tensor panel_convolution(const Tensor& x, const Tensor& packed, const Tensor& bias, const Patches& patches,
                         const Tensor& residual);

}  // namespace easel::cpu
