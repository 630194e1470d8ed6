#include <charconv>
#include <fstream>

#include "easel/runtime.h"

namespace easel {

namespace {

// A word of /proc/cpuinfo's first processor: the flags listed there are those the operating system has enabled.
bool cpuinfo_has(const std::string& field, const std::string& word) {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(field)) return (line + " ").find(" " + word + " ") != std::string::npos;
  }
  return false;
}

// "cuda" → 0, "cuda:2" → 2; nullopt for anything else.
std::optional<int> cuda_index(std::string_view word) {
  if (word == "cuda") return 0;
  if (!word.starts_with("cuda:") || word.size() == 5) return std::nullopt;
  int index = 0;
  const char* end = word.data() + word.size();
  const auto [stop, error] = std::from_chars(word.data() + 5, end, index);
  return error == std::errc() && stop == end && index >= 0 ? std::optional(index) : std::nullopt;
}

at::Device resolve_device(std::string_view word) {
  if (word == "cpu") return at::kCPU;
  const std::optional<int> index = cuda_index(word);
  if (word != "auto" && !index)
    throw Error(ErrorKind::kUsage, "--device '" + std::string(word) + "': expected auto, cpu, cuda or cuda:N");
  std::string why;
  const int count = static_cast<int>(cuda_devices(&why).size());
  if (word == "auto") return count > 0 ? at::Device(at::kCUDA, 0) : at::Device(at::kCPU);
  if (count == 0)
    throw Error(ErrorKind::kFile, "--device " + std::string(word) + ": " + why, "--device cpu runs without CUDA");
  if (*index >= count)
    throw Error(ErrorKind::kUsage, "--device " + std::string(word) + ": there are " + std::to_string(count) +
                                       " CUDA devices, numbered from 0");
  return at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(*index));
}

at::ScalarType resolve_dtype(at::Device device, DtypeChoice choice) {
  switch (choice) {
    case DtypeChoice::kF32:
      return at::kFloat;
    case DtypeChoice::kF16:
      return at::kHalf;
    case DtypeChoice::kBF16:
      return at::kBFloat16;
    case DtypeChoice::kAuto:
    case DtypeChoice::kInt8:
      break;
  }
  if (device.is_cuda()) return at::kHalf;
  return cpu_has_native_bf16() ? at::kBFloat16 : at::kFloat;
}

}  // namespace

bool cpu_has_native_bf16() {
  // Intel's AVX512-BF16 without AMX runs at half the rate of f32 products, so it does not count; AMD's runs at twice.
  static const bool native = cpuinfo_has("flags", "amx_bf16") ||
                             (cpuinfo_has("flags", "avx512_bf16") && cpuinfo_has("vendor_id", "AuthenticAMD"));
  return native;
}

bool cpu_has_int8() {
  static const bool has = cpuinfo_has("flags", "avx512_vnni");
  return has;
}

namespace {

void check_int8(at::Device device) {
  if (!device.is_cpu()) throw Error(ErrorKind::kUsage, "--dtype int8 is for the CPU", "--device cpu, or --dtype f16");
  if (!cpu_has_int8())
    throw Error(ErrorKind::kFile, "--dtype int8: this processor has no AVX512-VNNI",
                "--dtype auto takes what is fastest here");
}

}  // namespace

Precision resolve_precision(std::string_view device, DtypeChoice dtype) {
  Precision precision;
  precision.device = resolve_device(device);
  precision.int8 = dtype == DtypeChoice::kInt8;
  if (precision.int8) check_int8(precision.device);
  precision.text = precision.unet = precision.vae = resolve_dtype(precision.device, dtype);
  return precision;
}

DtypeChoice dtype_choice(std::string_view word) {
  if (word == "auto") return DtypeChoice::kAuto;
  if (word == "f32") return DtypeChoice::kF32;
  if (word == "f16") return DtypeChoice::kF16;
  if (word == "bf16") return DtypeChoice::kBF16;
  if (word == "int8") return DtypeChoice::kInt8;
  throw Error(ErrorKind::kUsage, "--dtype '" + std::string(word) + "': expected auto, f32, f16, bf16 or int8");
}

std::string dtype_name(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      return "f32";
    case at::kHalf:
      return "f16";
    case at::kBFloat16:
      return "bf16";
    case at::kDouble:
      return "f64";
    case at::kLong:
      return "i64";
    case at::kInt:
      return "i32";
    default:
      return c10::toString(dtype);
  }
}

std::string Precision::dtype_name() const { return int8 ? "int8" : easel::dtype_name(unet); }

std::string Precision::device_name() const { return device.is_cpu() ? "cpu" : device.str(); }

}  // namespace easel
