#include "nn/packing.h"

#include "nn/cpu/int8.h"
#include "nn/cpu/packed.h"
#include "nn/cpu/panels.h"

namespace easel {

bool replace(Tensor& weight, Tensor packed, const Weights& w) {
  if (!packed.defined()) return false;
  weight = std::move(packed);
  w.drop_pages("weight");
  return true;
}

bool is_int8(const Weights& w, const Shape& linear) { return w.is_int8() && cpu::can_int8(linear[1], linear[0]); }

bool takes_panels(const Weights& w, const Shape& linear) {
  return w.is_packed() && !is_int8(w, linear) && cpu::can_panels(linear[1], linear[0], w.dtype());
}

Tensor in_panels(const Tensor& weight, const Weights& w, at::ScalarType dtype) {
  cpu::PackedPanels packed = cpu::pack_panels(weight, dtype);
  if (!packed.finite) w.not_finite("weight");
  return std::move(packed.weight);
}

Tensor halves_in_panels(const Tensor& weight, const Weights& w) {
  return weight.is_cpu() && weight.element_size() == 2 ? in_panels(weight, w, w.dtype()) : Tensor();
}

Tensor packed_linear(const Tensor& weight, const Weights& w) {
  const Tensor panels = takes_panels(w, weight.sizes().vec()) ? halves_in_panels(weight, w) : Tensor();
  return panels.defined() || !w.packs_slowly() ? panels : cpu::pack_linear(weight);
}

}  // namespace easel
