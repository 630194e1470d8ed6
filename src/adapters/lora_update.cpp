#include "adapters/lora_update.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace easel {

namespace {

int64_t count(at::IntArrayRef shape) { return c10::multiply_integers(shape); }

// One module being read.
class Reader {
 public:
  Reader(const LoraTensors& tensors, const Shape& shape, std::string where)
      : tensors_(tensors), shape_(shape), where_(std::move(where)) {}

  bool has(const std::string& name) const { return tensors_.contains(name); }

  Tensor get(const std::string& name) {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) fault("its " + name + " is missing");
    if (found->second.dim() < 2) fault(name + " has shape " + to_string(found->second.sizes()) + ", expected a matrix");
    if (found->second.numel() == 0) fault(name + " is empty: shape " + to_string(found->second.sizes()));
    return found->second;
  }

  // [rows, everything else]
  Tensor matrix(const std::string& name) {
    const Tensor tensor = get(name);
    return tensor.reshape({tensor.size(0), -1});
  }

  void expect(bool fits, const std::string& what) const {
    if (!fits) fault(what);
  }

  [[noreturn]] void fault(const std::string& what) const {
    throw Error(ErrorKind::kFile, where_ + what + "; the model's tensor has shape " + to_string(shape_));
  }

  const Shape& shape() const { return shape_; }
  int64_t numel() const { return count(shape_); }

 private:
  const LoraTensors& tensors_;
  const Shape& shape_;
  std::string where_;
};

std::string shapes(const Tensor& a, const Tensor& b) { return to_string(a.sizes()) + " and " + to_string(b.sizes()); }

// A Tucker core t [r, r', …] between two factors, a [r', in] and b [r, out]: [out, in, …]. As LyCORIS' rebuild_tucker.
Tensor tucker(const Tensor& core, const Tensor& in, const Tensor& out) {
  return at::einsum("ij...,jr,ip->pr...", {core, in, out}).contiguous();
}

struct Factored {
  std::function<Tensor()> delta;
  int64_t rank;
  Tensor down = {}, up = {};
};

// up [out, r] · down [r, in·k·k]; with a core: up [out, r], core [r, r, k, k], down [r, in].
Factored low_rank(Reader& read) {
  const Tensor down = read.matrix("lora_down"), up = read.matrix("lora_up");
  const int64_t rank = down.size(0);
  if (read.has("lora_mid")) {
    const Tensor core = read.get("lora_mid");
    read.expect(
        core.dim() >= 2 && core.size(0) == up.size(1) && core.size(1) == rank &&
            up.size(0) * down.size(1) * count(core.sizes().slice(2)) == read.numel(),
        "lora_up, lora_mid and lora_down do not multiply: " + shapes(up, core) + " and " + to_string(down.sizes()));
    return {[=, shape = read.shape()] { return tucker(core, down, up.t()).reshape(shape); }, rank};
  }
  read.expect(up.size(1) == rank && up.size(0) == read.shape().front() && up.size(0) * down.size(1) == read.numel(),
              "lora_up and lora_down do not multiply to it: " + shapes(up, down));
  Shape narrow = read.shape();
  narrow.front() = rank;
  return {[=, shape = read.shape()] { return at::matmul(up, down).reshape(shape); }, rank, down.reshape(narrow), up};
}

// One factor of LoHa: a [out, r] · b [r, in·k·k], or with a core t: a [r, out], b [r, in].
Factored hadamard_factor(Reader& read, const std::string& which) {
  const Tensor a = read.get("hada_" + which + "_a"), b = read.matrix("hada_" + which + "_b");
  const std::string core_name = which == "w1" ? "hada_t1" : "hada_t2";
  if (read.has(core_name)) {
    const Tensor core = read.get(core_name);
    read.expect(a.dim() == 2 && core.size(0) == a.size(0) && core.size(1) == b.size(0) &&
                    a.size(1) * b.size(1) * count(core.sizes().slice(2)) == read.numel(),
                core_name + " does not multiply with its factors: " + shapes(a, core) + " and " + to_string(b.sizes()));
    return {[=, shape = read.shape()] { return tucker(core, b, a).reshape(shape); }, b.size(0)};
  }
  read.expect(a.dim() == 2 && a.size(1) == b.size(0) && a.size(0) * b.size(1) == read.numel(),
              "hada_" + which + "_a and _b do not multiply to it: " + shapes(a, b));
  return {[=, shape = read.shape()] { return at::matmul(a, b).reshape(shape); }, b.size(0)};
}

Factored hadamard(Reader& read) {
  const Factored first = hadamard_factor(read, "w1"), second = hadamard_factor(read, "w2");
  return {[=] { return first.delta() * second.delta(); }, first.rank};
}

// A factor of LoKr, whole or itself of low rank; rank 0: whole.
struct KroneckerFactor {
  Tensor value;
  int64_t rank;
};

KroneckerFactor kronecker_factor(Reader& read, const std::string& which) {
  const std::string name = "lokr_" + which;
  if (read.has(name)) return {read.get(name), 0};
  const Tensor a = read.get(name + "_a"), b = read.get(name + "_b");
  if (which == "w2" && read.has("lokr_t2")) {
    const Tensor core = read.get("lokr_t2");
    read.expect(a.dim() == 2 && b.dim() == 2 && core.size(0) == a.size(0) && core.size(1) == b.size(0),
                "lokr_t2 does not multiply with its factors: " + shapes(a, core) + " and " + to_string(b.sizes()));
    return {tucker(core, b, a), b.size(0)};
  }
  read.expect(a.dim() == 2 && a.size(1) == b.size(0), name + "_a and _b do not multiply: " + shapes(a, b));
  const Tensor product = at::matmul(a, b.reshape({b.size(0), -1}));
  std::vector<int64_t> shape = b.sizes().vec();
  shape.front() = a.size(0);
  return {product.reshape(shape), b.size(0)};
}

// w2 of a convolution may be stored as a matrix, its kernel in the columns.
Factored kronecker(Reader& read) {
  const KroneckerFactor w1 = kronecker_factor(read, "w1"), w2 = kronecker_factor(read, "w2");
  const Shape& shape = read.shape();
  const int64_t o1 = w1.value.size(0), i1 = w1.value.size(1);
  read.expect(w1.value.numel() == o1 * i1 && shape.size() >= 2 && shape[0] % o1 == 0 && shape[1] % i1 == 0 &&
                  w1.value.numel() * w2.value.numel() == read.numel(),
              "the Kronecker product of lokr_w1 and lokr_w2 is not it: " + shapes(w1.value, w2.value));
  Shape small = shape;
  small[0] /= o1, small[1] /= i1;
  Shape ones(shape.size(), 1);
  ones[0] = o1, ones[1] = i1;
  const Tensor first = w1.value.reshape(ones), second = w2.value.reshape(small);
  return {[=] { return at::kron(first, second); }, std::max(w1.rank, w2.rank)};
}

Factored full(Reader& read, const std::string& name, const LoraTensors& tensors) {
  const Tensor& difference = tensors.at(name);
  read.expect(difference.numel() == read.numel(), name + " has shape " + to_string(difference.sizes()));
  return {[=, shape = read.shape()] { return difference.reshape(shape); }, 0};
}

Factored factored(Reader& read, const LoraTensors& tensors) {
  if (read.has("hada_w1_a") || read.has("hada_w1_b")) return hadamard(read);
  if (read.has("lokr_w1") || read.has("lokr_w1_a")) return kronecker(read);
  for (const char* name : {"diff", "diff_b"}) {
    if (read.has(name)) return full(read, name, tensors);
  }
  return low_rank(read);
}

double number(const LoraTensors& tensors, const std::string& name, Reader& read) {
  const Tensor& tensor = tensors.at(name);
  read.expect(tensor.numel() == 1, name + " has shape " + to_string(tensor.sizes()) + ", expected a number");
  return tensor.item<double>();
}

// A factor of rank 0 was whole: its alpha says nothing (LyCORIS sets it to the rank then).
double scale_of(const LoraTensors& tensors, int64_t rank, const PeftScale& peft, Reader& read) {
  double scale = tensors.contains("scalar") ? number(tensors, "scalar", read) : 1;
  if (rank == 0) return scale;
  const auto wide = static_cast<double>(rank);
  if (tensors.contains("alpha")) return scale * number(tensors, "alpha", read) / wide;
  if (peft.alpha) return scale * *peft.alpha / (peft.rank_stabilised ? std::sqrt(wide) : wide);
  return scale;
}

Tensor along(int64_t dimension, const Tensor& stored, const Shape& shape) {
  std::vector<int64_t> view(shape.size(), 1);
  view[static_cast<std::size_t>(dimension)] = -1;
  return stored.reshape(view);
}

// PEFT's are the rows' ([1, out, 1, 1] of convolutions). LyCORIS' are [out, 1, …] or, of older files, [1, in, …]: over
// which dimensions norms are taken follows from it.
Tensor magnitude_of(const LoraTensors& tensors, Reader& read) {
  const Shape& shape = read.shape();
  if (const auto peft = tensors.find("lora_magnitude_vector"); peft != tensors.end()) {
    read.expect(peft->second.numel() == shape[0], "lora_magnitude_vector has shape " + to_string(peft->second.sizes()));
    return along(0, peft->second, shape);
  }
  const Tensor& stored = tensors.at("dora_scale");
  const bool by_output = stored.numel() == shape[0] && (stored.dim() < 2 || stored.size(0) == shape[0]);
  const bool by_input = stored.dim() >= 2 && stored.size(0) == 1 && stored.numel() == shape[1];
  read.expect(by_output || by_input, "dora_scale has shape " + to_string(stored.sizes()));
  return along(by_output ? 0 : 1, stored, shape);
}

}  // namespace

LoraUpdate make_update(const LoraTensors& tensors, const Shape& shape, const PeftScale& peft,
                       const std::string& where) {
  Reader read(tensors, shape, where);
  const Factored change = factored(read, tensors);
  LoraUpdate update{change.delta, scale_of(tensors, change.rank, peft, read), change.down, change.up, {}};
  read.expect(std::isfinite(update.scale), "alpha gives a scale that is not finite");
  if (tensors.contains("dora_scale") || tensors.contains("lora_magnitude_vector"))
    update.magnitude = magnitude_of(tensors, read), update.down = update.up = Tensor();
  return update;
}

}  // namespace easel
