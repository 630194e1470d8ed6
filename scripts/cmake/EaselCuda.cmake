# libeasel_cuda.so: libtorch_cuda plus our kernels behind a small C interface (src/runtime/cuda/plugin.h).
set(_build_cuda OFF)
if(NOT EASEL_CUDA STREQUAL "off" AND TARGET LibTorch::cuda AND NOT EASEL_SANITIZE)
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(_build_cuda ON)
  endif()
endif()
if(EASEL_CUDA STREQUAL "on" AND NOT _build_cuda)
  message(FATAL_ERROR "EASEL_CUDA=on needs nvcc (found: ${CMAKE_CUDA_COMPILER}) and libtorch_cuda (found: ${LibTorch_CUDA_LIBRARY})")
endif()
if(_build_cuda)
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 86-real 89-real 90)
  endif()
  enable_language(CUDA)
  set(CMAKE_CUDA_STANDARD 17)
  file(GLOB cuda_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/*/cuda/*.cu)
  add_library(easel_cuda SHARED ${cuda_sources})
  target_include_directories(easel_cuda PRIVATE ${CMAKE_SOURCE_DIR}/include ${CMAKE_SOURCE_DIR}/src)
  # -fopenmp and -Wextra are the host compiler's, given through nvcc
  set_target_properties(easel_cuda PROPERTIES COMPILE_OPTIONS "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall>"
                                              CUDA_RUNTIME_LIBRARY Shared)
  # libtorch_cuda must stay NEEDED although nothing here calls it: loading it registers ATen's CUDA hooks and kernels.
  target_link_libraries(easel_cuda PRIVATE "-Wl,--no-as-needed,--allow-shlib-undefined,--unresolved-symbols=ignore-in-shared-libs"
                                           ${LibTorch_CUDA_LIBRARY} ${LibTorch_C10_LIBRARY})
  add_dependencies(easel easel_cuda)
endif()
