# libtorch as two imported targets, LibTorch::cpu and LibTorch::cuda, without find_package(Torch): Torch's own config
# insists on a CUDA toolkit even when only libtorch_cpu is wanted.
#
# Looked for in: EASEL_TORCH_ROOT, Torch_DIR, CMAKE_PREFIX_PATH, then whatever `scripts/setup --print-torch` finds or
# installs (an installed Python's torch 2.11, else the pinned wheel in the cache folder).
set(_hints ${EASEL_TORCH_ROOT})
if(Torch_DIR)
  list(APPEND _hints ${Torch_DIR}/../../..)
elseif(DEFINED ENV{Torch_DIR})
  list(APPEND _hints $ENV{Torch_DIR}/../../..)
endif()
list(APPEND _hints ${CMAKE_PREFIX_PATH})
string(REPLACE ":" ";" _env_prefixes "$ENV{CMAKE_PREFIX_PATH}")
list(APPEND _hints ${_env_prefixes})

find_library(LibTorch_CPU_LIBRARY torch_cpu HINTS ${_hints} PATH_SUFFIXES lib NO_DEFAULT_PATH)
if(NOT LibTorch_CPU_LIBRARY)
  execute_process(COMMAND ${CMAKE_SOURCE_DIR}/scripts/setup --print-torch
                  OUTPUT_VARIABLE _root OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  find_library(LibTorch_CPU_LIBRARY torch_cpu HINTS ${_root} PATH_SUFFIXES lib NO_DEFAULT_PATH)
endif()
get_filename_component(LibTorch_LIB_DIR "${LibTorch_CPU_LIBRARY}" DIRECTORY)
get_filename_component(LibTorch_ROOT "${LibTorch_LIB_DIR}" DIRECTORY)
find_library(LibTorch_C10_LIBRARY c10 HINTS ${LibTorch_LIB_DIR} NO_DEFAULT_PATH)
find_library(LibTorch_CUDA_LIBRARY torch_cuda HINTS ${LibTorch_LIB_DIR} NO_DEFAULT_PATH)
find_file(LibTorch_GOMP_LIBRARY NAMES libgomp.so.1 libgomp-98b21ff3.so.1 HINTS ${LibTorch_LIB_DIR} NO_DEFAULT_PATH)
find_path(LibTorch_INCLUDE_DIR ATen/ATen.h HINTS ${LibTorch_ROOT}/include NO_DEFAULT_PATH)

if(LibTorch_INCLUDE_DIR)
  file(STRINGS ${LibTorch_INCLUDE_DIR}/torch/headeronly/version.h _version_lines REGEX "TORCH_VERSION_(MAJOR|MINOR) [0-9]+")
  string(REGEX MATCHALL "[0-9]+" LibTorch_VERSION "${_version_lines}")
  list(JOIN LibTorch_VERSION "." LibTorch_VERSION)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch REQUIRED_VARS LibTorch_CPU_LIBRARY LibTorch_C10_LIBRARY LibTorch_INCLUDE_DIR
                                  VERSION_VAR LibTorch_VERSION)
if(NOT LibTorch_VERSION STREQUAL "2.11")
  message(WARNING "libtorch ${LibTorch_VERSION} at ${LibTorch_ROOT}: Easel is tested with 2.11")
endif()

if(NOT TARGET LibTorch::cpu)
  add_library(LibTorch::c10 SHARED IMPORTED)
  set_target_properties(LibTorch::c10 PROPERTIES IMPORTED_LOCATION ${LibTorch_C10_LIBRARY})
  add_library(LibTorch::cpu SHARED IMPORTED)
  set_target_properties(LibTorch::cpu PROPERTIES
    IMPORTED_LOCATION ${LibTorch_CPU_LIBRARY}
    INTERFACE_INCLUDE_DIRECTORIES ${LibTorch_INCLUDE_DIR}
    INTERFACE_LINK_LIBRARIES LibTorch::c10)
  # libcudart and libcupti are needed by libtorch_cpu itself and found through its own run path.
  target_link_options(LibTorch::cpu INTERFACE -Wl,--allow-shlib-undefined)
  if(LibTorch_GOMP_LIBRARY)
    target_link_libraries(LibTorch::cpu INTERFACE ${LibTorch_GOMP_LIBRARY})
  else()
    target_link_libraries(LibTorch::cpu INTERFACE gomp)
  endif()
endif()
if(LibTorch_CUDA_LIBRARY AND NOT TARGET LibTorch::cuda)
  add_library(LibTorch::cuda SHARED IMPORTED)
  set_target_properties(LibTorch::cuda PROPERTIES IMPORTED_LOCATION ${LibTorch_CUDA_LIBRARY})
  target_link_libraries(LibTorch::cuda INTERFACE LibTorch::cpu)
endif()
