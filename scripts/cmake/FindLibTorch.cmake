# libtorch as imported targets, LibTorch::cpu and (where it is there) LibTorch::cuda, without find_package(Torch):
# Torch's own config insists on a CUDA toolkit even when only libtorch_cpu is wanted.
#
# Looked for in EASEL_TORCH_ROOT, Torch_DIR and CMAKE_PREFIX_PATH; else `scripts/setup --print-torch` finds or fetches
# one and remembers it in the build folder. The libraries' paths are not cached: a new folder changes them all.
function(_libtorch_root result)
  set(named ${EASEL_TORCH_ROOT})
  if(NOT named AND Torch_DIR)
    set(named ${Torch_DIR}/../../..)
  endif()
  set(candidates ${named})
  if(NOT named)
    foreach(prefix ${CMAKE_PREFIX_PATH})
      list(APPEND candidates ${prefix} ${prefix}/../..)  # Python's torch.utils.cmake_prefix_path is share/cmake
    endforeach()
  endif()
  foreach(candidate ${candidates})
    if(EXISTS ${candidate}/lib/libtorch_cpu.so AND EXISTS ${candidate}/include/ATen/ATen.h)
      file(REAL_PATH ${candidate} candidate)
      set(${result} ${candidate} PARENT_SCOPE)
      return()
    endif()
  endforeach()
  if(named)
    message(FATAL_ERROR "no lib/libtorch_cpu.so with include/ATen in ${named} (from EASEL_TORCH_ROOT or Torch_DIR)")
  endif()
  execute_process(COMMAND ${CMAKE_COMMAND} -E env EASEL_BUILD=${CMAKE_BINARY_DIR}
                          ${CMAKE_SOURCE_DIR}/scripts/setup --print-torch
                  OUTPUT_VARIABLE root OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  set(${result} ${root} PARENT_SCOPE)
endfunction()

_libtorch_root(LibTorch_ROOT)
set(_here HINTS ${LibTorch_ROOT}/lib NO_DEFAULT_PATH NO_CACHE)
find_library(LibTorch_CPU_LIBRARY torch_cpu ${_here})
find_library(LibTorch_C10_LIBRARY c10 ${_here})
find_library(LibTorch_CUDA_LIBRARY torch_cuda ${_here})
find_library(LibTorch_C10_CUDA_LIBRARY c10_cuda ${_here})
set(LibTorch_INCLUDE_DIR ${LibTorch_ROOT}/include)

# The OpenMP runtime that libtorch_cpu itself loads: the one beside it, under whatever name, else the system's.
file(GLOB LibTorch_GOMP_LIBRARY ${LibTorch_ROOT}/lib/libgomp*.so*)
if(LibTorch_GOMP_LIBRARY)
  list(GET LibTorch_GOMP_LIBRARY 0 LibTorch_GOMP_LIBRARY)
else()
  set(LibTorch_GOMP_LIBRARY gomp)
endif()

set(LibTorch_VERSION "")
foreach(_header headeronly/version.h csrc/api/include/torch/version.h)
  if(NOT LibTorch_VERSION AND EXISTS ${LibTorch_INCLUDE_DIR}/torch/${_header})
    file(STRINGS ${LibTorch_INCLUDE_DIR}/torch/${_header} _numbers REGEX "TORCH_VERSION_(MAJOR|MINOR) [0-9]+")
    string(REGEX MATCHALL "[0-9]+" _numbers "${_numbers}")
    list(JOIN _numbers "." LibTorch_VERSION)
  endif()
endforeach()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch REQUIRED_VARS LibTorch_CPU_LIBRARY LibTorch_C10_LIBRARY LibTorch_INCLUDE_DIR
                                  VERSION_VAR LibTorch_VERSION)
if(NOT LibTorch_VERSION STREQUAL "2.11")
  message(WARNING "libtorch ${LibTorch_VERSION} in ${LibTorch_ROOT}: Easel is tested with 2.11")
endif()

if(NOT TARGET LibTorch::cpu)
  add_library(LibTorch::c10 SHARED IMPORTED)
  set_target_properties(LibTorch::c10 PROPERTIES IMPORTED_LOCATION ${LibTorch_C10_LIBRARY})
  add_library(LibTorch::cpu SHARED IMPORTED)
  set_target_properties(LibTorch::cpu PROPERTIES IMPORTED_LOCATION ${LibTorch_CPU_LIBRARY}
                                                 INTERFACE_INCLUDE_DIRECTORIES ${LibTorch_INCLUDE_DIR})
  target_link_libraries(LibTorch::cpu INTERFACE LibTorch::c10 ${LibTorch_GOMP_LIBRARY})
  # libcudart and libcupti are needed by libtorch_cpu itself and found through its own run path.
  target_link_options(LibTorch::cpu INTERFACE -Wl,--allow-shlib-undefined)
endif()
if(LibTorch_CUDA_LIBRARY AND NOT TARGET LibTorch::cuda)
  add_library(LibTorch::cuda SHARED IMPORTED)
  set_target_properties(LibTorch::cuda PROPERTIES IMPORTED_LOCATION ${LibTorch_CUDA_LIBRARY})
  target_link_libraries(LibTorch::cuda INTERFACE LibTorch::cpu)
endif()
