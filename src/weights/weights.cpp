#include "easel/weights.h"

#include <algorithm>

#include "easel/runtime.h"
#include "weights/cpu/halves.h"
#include "weights/dtypes.h"
#include "weights/fault_list.h"
#include "weights/finite.h"

namespace easel {

namespace {

bool is_float(at::ScalarType type) {
  return type == at::kFloat || type == at::kHalf || type == at::kBFloat16 || type == at::kDouble;
}

bool is_half(at::ScalarType type) { return type == at::kHalf || type == at::kBFloat16; }

// Equal but for dimensions of 1 at the end of the stored one.
bool fits(const Shape& stored, const Shape& shape) {
  if (stored.size() < shape.size() || !std::equal(shape.begin(), shape.end(), stored.begin())) return false;
  return std::all_of(stored.begin() + static_cast<std::ptrdiff_t>(shape.size()), stored.end(),
                     [](int64_t size) { return size == 1; });
}

// As the file spells it, ours beside it where that differs.
std::string label(const WeightSource& source, const std::string& key) {
  const std::string stored = source.stored_name(key);
  return shown_name(stored) + (stored == key ? "" : " (" + shown_name(key) + ")");
}

}  // namespace

Weights::Weights(SourcePtr source, at::Device device, at::ScalarType dtype)
    : source_(std::move(source)),
      device_(device),
      dtype_(dtype),
      binding_(std::make_shared<Binding>()),
      upload_(std::make_shared<DeviceUpload>(device)) {
  if (!source_) return;
  for (std::string& name : source_->names()) binding_->stored.insert(std::move(name));
}

Weights Weights::below(std::string prefix) const {
  Weights view = *this;
  view.prefix_ = std::move(prefix);
  return view;
}

bool Weights::packable() const { return kernels() == Kernels::kFast && device_.is_cpu(); }

Weights Weights::packed() const {
  Weights view = *this;
  view.packing_ = packable() ? Packing::kAll : Packing::kNone;
  return view;
}

Weights Weights::packed_where_quick() const {
  Weights view = *this;
  view.packing_ = packable() ? Packing::kQuick : Packing::kNone;
  return view;
}

Weights Weights::allowing_int8() const {
  Weights view = *this;
  view.allows_int8_ = true;
  return view;
}

Weights Weights::int8() const {
  Weights view = *this;
  view.int8_ = allows_int8_;
  return view;
}

void Weights::drop_pages(std::string_view name) const {
  if (source_ && source_->info(path(name))) source_->drop_pages(path(name));
}

Weights Weights::operator/(std::string_view name) const { return below(path(name) + "."); }
Weights Weights::operator/(int64_t index) const { return *this / std::string_view(std::to_string(index)); }
std::string Weights::path(std::string_view name) const { return prefix_ + std::string(name); }

bool Weights::has(std::string_view name) const {
  const std::string key = path(name);
  if (binding_->stored.contains(key)) return true;
  const auto next = binding_->stored.lower_bound(key + ".");
  return next != binding_->stored.end() && next->starts_with(key + ".");
}

Weights Weights::either(std::initializer_list<std::string_view> names) const {
  for (const std::string_view name : names) {
    if (has(name)) return *this / name;
  }
  return *this / *names.begin();
}

std::optional<Shape> Weights::stored_shape(std::string_view name) const {
  const auto info = source_ ? source_->info(path(name)) : std::nullopt;
  return info ? std::optional(info->shape) : std::nullopt;
}

Tensor Weights::maybe(std::string_view name, const Shape& shape) const {
  const std::string key = path(name);
  if (binding_->stored.contains(key)) return get(name, shape);
  binding_->asked[key] = shape;
  return {};
}

std::optional<std::string> Weights::misfit(const TensorInfo& stored, const Shape& shape) const {
  if (!fits(stored.shape, shape)) return "is " + to_string(stored.shape) + ", expected " + to_string(shape);
  if (is_float(stored.dtype)) return std::nullopt;
  // Whole numbers here are a quantised checkpoint, whose scales are tensors that no network reads.
  const StoredDtype* dtype = find_stored_dtype(stored.dtype);
  return "is stored as " + (dtype ? std::string(dtype->name) : dtype_name(stored.dtype)) +
         ", expected F32, F16, BF16 or F64";
}

Tensor Weights::get(std::string_view name, const Shape& shape, Halves halves) const {
  return bound(path(name), shape, /*changed=*/true, halves);
}

Tensor Weights::get(std::string_view name, const Shape& shape, std::vector<LowRank>& beside, Halves halves) const {
  const std::string key = path(name);
  if (source_ && !device_.is_meta()) {
    for (const LowRank& change : source_->beside(key))
      beside.push_back({change.down.to(device_, dtype_), change.up.to(device_, dtype_), change.scale});
  }
  return bound(key, shape, /*changed=*/beside.empty(), halves);
}

Tensor Weights::bound(const std::string& key, const Shape& shape, bool changed, Halves halves) const {
  binding_->asked[key] = shape;
  const Tensor stand_in = at::empty(shape, at::TensorOptions(dtype_).device(at::kMeta));
  if (!source_) return stand_in;

  if (const std::optional<TensorInfo> info = source_->info(key)) {
    if (const auto fault = misfit(*info, shape)) {
      binding_->misfit.push_back("tensor " + label(*source_, key) + " " + *fault);
      return stand_in;
    }
    if (device_.is_meta()) return stand_in;
  }
  const Tensor stored = changed ? source_->load(key, shape) : source_->load_unchanged(key, shape);
  if (!stored.defined()) {
    binding_->missing.push_back("missing tensor " + label(*source_, key) + ", expected " + to_string(shape));
    return stand_in;
  }
  return device_.is_meta() ? stand_in : convert(key, stored.view(shape), halves);
}

namespace {

const std::string kNotFinite = "holds values that are not finite (NaN or infinity)";

cpu::Converted converted_to(at::ScalarType dtype, const Tensor& stored) {
  if (stored.is_cpu() && stored.scalar_type() == at::kHalf && (dtype == at::kFloat || dtype == at::kBFloat16))
    return cpu::of_halves(stored, dtype);
  Tensor values = stored.to(dtype);
  // Widening makes no value infinite, narrowing can: look at the smaller of the two.
  const bool finite = all_finite(values.element_size() > stored.element_size() ? stored : values);
  return {std::move(values), finite};
}

}  // namespace

void Weights::not_finite(std::string_view name) const { add_not_finite(path(name), kNotFinite); }

void Weights::add_not_finite(const std::string& key, const std::string& what) const {
  std::string line = "tensor " + label(*source_, key) + " " + what;
  std::vector<std::string>& lines = binding_->not_finite;
  if (lines.empty() || lines.back() != line) lines.push_back(std::move(line));  // a layer's may have been said
}

Tensor Weights::convert(const std::string& key, const Tensor& stored, Halves halves) const {
  if (halves != Halves::kConverted && device_.is_cpu() && is_half(stored.scalar_type())) {
    if (halves == Halves::kKept && !all_finite(stored)) add_not_finite(key, kNotFinite);
    return stored;
  }
  const cpu::Converted converted = converted_to(dtype_, stored);
  if (!converted.finite)
    add_not_finite(key, all_finite(stored) ? "has values beyond the range of " + dtype_name(dtype_) : kNotFinite);
  const Tensor bound = (*upload_)(converted.values);
  if (!bound.is_alias_of(stored)) source_->drop_pages(key);
  return bound;
}

void Weights::finish(const std::string& part, const std::function<bool(const std::string&)>& known_extra) const {
  if (!source_) return;
  const std::string begin = source_->describe() + ": ";
  Faults faults;
  const auto list = [&](const char* kind, const std::vector<std::string>& lines) {
    FaultList some(begin, kind);
    for (const std::string& line : lines) some.add(line);
    some.append_to(faults);
  };
  list("missing tensors", binding_->missing);
  list("tensors that do not fit", binding_->misfit);
  list("tensors with bad values", binding_->not_finite);
  std::vector<std::string> unexpected;
  for (const std::string& name : binding_->stored) {
    if (!binding_->asked.contains(name) && !known_extra(name))
      unexpected.push_back("unexpected tensor " + label(*source_, name));
  }
  list("unexpected tensors", unexpected);
  const bool only_values = binding_->missing.empty() && binding_->misfit.empty() && unexpected.empty();
  faults.raise_if_any(ErrorKind::kFile, only_values ? "the file of " + part + " may be damaged: get it again"
                                                    : "these weights and the config of " + part +
                                                          " do not belong together: get both again");
}

}  // namespace easel
