// What scripts/golden/unet_golden.py wrote (U-Nets of every published kind in small, the full-size ones' keys), and
// weights with one tensor zeroed.
#pragma once

#include "easel/unet.h"
#include "support/golden.h"

namespace easel::testing {

// Every tiny U-Net, relative, in f32.
constexpr double kUNetTolerance = 1e-5;

inline const json& tiny_unets() {
  static const json configs = read(data("golden/unets.json")).at("tiny");
  return configs;
}
inline SourcePtr unet_calls() { return open_safetensors(data("golden/unets.safetensors")); }
inline bool is_pixel_unet(const json& config) { return config.at("_class_name") == "UNet2DModel"; }

// The golden call of tiny U-Net `name` by a network of these weights; the first `batch` of its pictures.
Tensor call_unet(const Weights& w, const std::string& name, const json& config, int64_t batch = 2);

// The names a U-Net asks for, with their shapes.
std::map<std::string, Shape> asked_keys(const json& config);

// {key: shape} of a full-size network, its "{0,1}" written out. `name`: of models/specs or of unets.json's "full".
std::map<std::string, Shape> full_size_keys(const std::string& name, const std::string& part);

// The random weights of a U-Net with one of them zeroed.
class WithoutOne : public WeightSource {
 public:
  explicit WithoutOne(std::string name) : name_(std::move(name)) {}
  std::vector<std::string> names() const override { return {}; }
  std::optional<TensorInfo> info(const std::string&) const override { return std::nullopt; }
  Tensor load(const std::string& name) const override { return drawn().at(name); }
  Tensor load(const std::string& name, at::IntArrayRef shape) const override {
    Tensor& tensor = drawn()[name + to_string(shape)];
    if (!tensor.defined()) tensor = random_weight("unet/" + name, shape, 0);
    return name == name_ ? at::zeros_like(tensor) : tensor;
  }
  std::string describe() const override { return "the tiny model"; }

 private:
  // Drawn once: hundreds of networks are built from the same numbers.
  static std::map<std::string, Tensor>& drawn() {
    static std::map<std::string, Tensor> tensors;
    return tensors;
  }
  std::string name_;
};

}  // namespace easel::testing
