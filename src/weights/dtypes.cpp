#include "weights/dtypes.h"

#include <algorithm>
#include <array>

namespace easel {

namespace {

// Eight-bit floats come with scales that every publisher stores differently.
constexpr std::array kDtypes = {
    StoredDtype{"F64", 8, at::kDouble, true},
    StoredDtype{"F32", 4, at::kFloat, true},
    StoredDtype{"F16", 2, at::kHalf, true},
    StoredDtype{"BF16", 2, at::kBFloat16, true},
    StoredDtype{"I64", 8, at::kLong, true},
    StoredDtype{"I32", 4, at::kInt, true},
    StoredDtype{"I16", 2, at::kShort, true},
    StoredDtype{"I8", 1, at::kChar, true},
    StoredDtype{"U64", 8, at::kUInt64, true},
    StoredDtype{"U32", 4, at::kUInt32, true},
    StoredDtype{"U16", 2, at::kUInt16, true},
    StoredDtype{"U8", 1, at::kByte, true},
    StoredDtype{"BOOL", 1, at::kBool, true},
    StoredDtype{"C64", 8, at::kComplexFloat, true},
    StoredDtype{"F8_E4M3", 1, at::kFloat8_e4m3fn, false},
    StoredDtype{"F8_E4M3FNUZ", 1, at::kFloat8_e4m3fnuz, false},
    StoredDtype{"F8_E5M2", 1, at::kFloat8_e5m2, false},
    StoredDtype{"F8_E5M2FNUZ", 1, at::kFloat8_e5m2fnuz, false},
    StoredDtype{"F8_E8M0", 1, at::kFloat8_e8m0fnu, false},
};

const StoredDtype* find_if(const std::function<bool(const StoredDtype&)>& matches) {
  const auto found = std::find_if(kDtypes.begin(), kDtypes.end(), matches);
  return found == kDtypes.end() ? nullptr : &*found;
}

}  // namespace

const StoredDtype* find_stored_dtype(std::string_view name) {
  return find_if([&](const StoredDtype& dtype) { return dtype.name == name; });
}

const StoredDtype* find_stored_dtype(at::ScalarType type) {
  return find_if([&](const StoredDtype& dtype) { return dtype.type == type; });
}

std::string stored_dtype_names() {
  std::string names;
  for (const StoredDtype& dtype : kDtypes) names += (names.empty() ? "" : ", ") + std::string(dtype.name);
  return names;
}

std::string shown_name(const std::string& name) {
  constexpr std::size_t kShown = 200;
  const auto plain = [](char c) { return c > ' ' && c <= '~'; };
  if (!name.empty() && name.size() <= kShown && std::all_of(name.begin(), name.end(), plain)) return name;
  const std::string cut = name.size() > kShown ? name.substr(0, kShown) + "…" : name;
  return json(cut).dump(-1, ' ', /*ensure_ascii=*/true, json::error_handler_t::replace);
}

}  // namespace easel
