#include "weights/pickle_globals.h"

#include <algorithm>

#include "weights/dtypes.h"

namespace easel::pickle {

const std::vector<Global>& known_globals() {
  static const std::vector<Global> globals = {
      {"collections", "OrderedDict", Role::kOrderedDict},
      {"__builtin__", "set", Role::kSet},
      {"builtins", "set", Role::kSet},
      {"_codecs", "encode", Role::kEncode},
      {"torch._utils", "_rebuild_tensor", Role::kTensorV1},
      {"torch._utils", "_rebuild_tensor_v2", Role::kTensorV2},
      {"torch._utils", "_rebuild_tensor_v3", Role::kTensorV3},
      {"torch._utils", "_rebuild_parameter", Role::kParameter},
      {"torch.nn.modules.container", "ParameterDict", Role::kParameterDict},
      {"torch", "DoubleStorage", Role::kStorage, at::kDouble},
      {"torch", "FloatStorage", Role::kStorage, at::kFloat},
      {"torch", "HalfStorage", Role::kStorage, at::kHalf},
      {"torch", "BFloat16Storage", Role::kStorage, at::kBFloat16},
      {"torch", "LongStorage", Role::kStorage, at::kLong},
      {"torch", "IntStorage", Role::kStorage, at::kInt},
      {"torch", "ShortStorage", Role::kStorage, at::kShort},
      {"torch", "CharStorage", Role::kStorage, at::kChar},
      {"torch", "ByteStorage", Role::kStorage, at::kByte},
      {"torch", "BoolStorage", Role::kStorage, at::kBool},
      {"torch", "ComplexFloatStorage", Role::kStorage, at::kComplexFloat},
      {"torch", "UntypedStorage", Role::kStorage, at::kByte},
      {"torch.storage", "UntypedStorage", Role::kStorage, at::kByte},
      {"torch", "float64", Role::kDtype, at::kDouble},
      {"torch", "float32", Role::kDtype, at::kFloat},
      {"torch", "float16", Role::kDtype, at::kHalf},
      {"torch", "bfloat16", Role::kDtype, at::kBFloat16},
      {"torch", "int64", Role::kDtype, at::kLong},
      {"torch", "int32", Role::kDtype, at::kInt},
      {"torch", "int16", Role::kDtype, at::kShort},
      {"torch", "int8", Role::kDtype, at::kChar},
      {"torch", "uint64", Role::kDtype, at::kUInt64},
      {"torch", "uint32", Role::kDtype, at::kUInt32},
      {"torch", "uint16", Role::kDtype, at::kUInt16},
      {"torch", "uint8", Role::kDtype, at::kByte},
      {"torch", "bool", Role::kDtype, at::kBool},
      {"torch", "complex64", Role::kDtype, at::kComplexFloat},
      {"torch", "float8_e4m3fn", Role::kDtype, at::kFloat8_e4m3fn},
      {"torch", "float8_e4m3fnuz", Role::kDtype, at::kFloat8_e4m3fnuz},
      {"torch", "float8_e5m2", Role::kDtype, at::kFloat8_e5m2},
      {"torch", "float8_e5m2fnuz", Role::kDtype, at::kFloat8_e5m2fnuz},
      {"torch", "float8_e8m0fnu", Role::kDtype, at::kFloat8_e8m0fnu},
      {"numpy", "dtype", Role::kNumpyDtype},
      {"numpy.core.multiarray", "scalar", Role::kNumpyScalar},
      {"numpy._core.multiarray", "scalar", Role::kNumpyScalar},
      // Lightning before 1.5 kept the callbacks' state by class; Stable Diffusion 1.x was published so.
      {"pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint", Role::kName},
      {"pytorch_lightning.callbacks.early_stopping", "EarlyStopping", Role::kName},
  };
  return globals;
}

const Global* find_global(std::string_view module, std::string_view name) {
  const auto& globals = known_globals();
  const auto found = std::find_if(globals.begin(), globals.end(),
                                  [&](const Global& global) { return global.module == module && global.name == name; });
  return found == globals.end() ? nullptr : &*found;
}

std::string shown_global(std::string_view module, std::string_view name) {
  constexpr std::size_t kShown = 100;
  return shown_name(std::string(module.substr(0, kShown)) + "." + std::string(name.substr(0, kShown)));
}

std::string unsupported_tensors(std::string_view module, std::string_view name) {
  if (!module.starts_with("torch")) return "";
  if (name.find("sparse") != name.npos) return "sparse tensors are not supported";
  if (name == "_rebuild_qtensor" || (name.starts_with("Q") && name.ends_with("Storage")))
    return "quantised tensors are not supported";
  if (name == "_rebuild_meta_tensor_no_storage") return "it holds tensors without values (device meta)";
  return "";
}

}  // namespace easel::pickle
