# libingot-cuda.so, where nvcc is found: kernels/cuda/card.cu for every architecture below that this nvcc knows, and PTX of the last
# one for cards to come. The program opens it at run time (kernels/cuda/library.c) and needs neither CUDA nor nvcc itself.
#   cmake --build build --target cuda_report      registers and spills of every kernel, in build/cuda-report.txt
option(INGOT_CUDA "build libingot-cuda.so where nvcc is found" ON)
set(INGOT_CUDA_ARCHITECTURES "80;86;89;90a;100;120" CACHE STRING "compute capabilities to build for; native: the card of this machine")
find_program(INGOT_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
if(NOT INGOT_CUDA OR NOT INGOT_NVCC OR CMAKE_CROSSCOMPILING OR INGOT_SANITIZE)
  return()
endif()

set(cuda_code)
if(INGOT_CUDA_ARCHITECTURES STREQUAL "native")
  set(cuda_code -arch=native)
else()
  execute_process(COMMAND ${INGOT_NVCC} --list-gpu-arch OUTPUT_VARIABLE cuda_known)
  foreach(architecture ${INGOT_CUDA_ARCHITECTURES})
    string(REGEX REPLACE "[a-z]+$" "" number ${architecture})
    if(cuda_known MATCHES "compute_${number}\n")
      list(APPEND cuda_code -gencode arch=compute_${architecture},code=sm_${architecture})
      set(cuda_last ${number})
    endif()
  endforeach()
  list(APPEND cuda_code -gencode arch=compute_${cuda_last},code=compute_${cuda_last})
endif()

# -fmad=false: a multiplication and an addition are one operation only where the code says fmaf, so that a card rounds as the
# emulated kernels of the tests do.
set(cuda_flags -std=c++17 -O3 -fmad=false --threads 0 -I${CMAKE_SOURCE_DIR} -Xcompiler -Wall,-Wextra,-Wshadow,-fPIC,-fvisibility=hidden ${cuda_code})
if(INGOT_WERROR)
  list(APPEND cuda_flags -Werror all-warnings)
endif()
file(GLOB cuda_sources CONFIGURE_DEPENDS kernels/cuda/*.h kernels/cuda/*.def)
set(cuda_sources ${CMAKE_SOURCE_DIR}/kernels/cuda/card.cu ${cuda_sources} ${CMAKE_SOURCE_DIR}/kernels/formats/small.h ${CMAKE_SOURCE_DIR}/kernels/formats/fp4.h
    ${CMAKE_SOURCE_DIR}/kernels/formats/formats.def ${CMAKE_SOURCE_DIR}/kernels/activations.def ${CMAKE_SOURCE_DIR}/base/files/types.def)
set(INGOT_CUDA_LIBRARY ${CMAKE_BINARY_DIR}/libingot-cuda.so)
add_custom_command(OUTPUT ${INGOT_CUDA_LIBRARY}
  COMMAND ${INGOT_NVCC} ${cuda_flags} -Xptxas -v -shared -cudart static -Xlinker --no-undefined ${CMAKE_SOURCE_DIR}/kernels/cuda/card.cu
          -o ${INGOT_CUDA_LIBRARY} > ${CMAKE_BINARY_DIR}/cuda-ptxas.log 2>&1 || (cat ${CMAKE_BINARY_DIR}/cuda-ptxas.log && false)
  DEPENDS ${cuda_sources} COMMENT "Compiling libingot-cuda.so")
add_custom_target(ingot_cuda ALL DEPENDS ${INGOT_CUDA_LIBRARY})

add_custom_command(OUTPUT ${CMAKE_BINARY_DIR}/cuda-report.txt
  COMMAND ${CMAKE_SOURCE_DIR}/scripts/ptxas-report ${CMAKE_BINARY_DIR}/cuda-ptxas.log > ${CMAKE_BINARY_DIR}/cuda-report.txt
  DEPENDS ${INGOT_CUDA_LIBRARY} ${CMAKE_SOURCE_DIR}/scripts/ptxas-report VERBATIM)
add_custom_target(cuda_report DEPENDS ${CMAKE_BINARY_DIR}/cuda-report.txt)
install(FILES ${INGOT_CUDA_LIBRARY} DESTINATION ${CMAKE_INSTALL_LIBDIR})
