# libingot-cuda.so, where nvcc is found. The program opens it at run time (kernels/cuda/library.c) and needs neither CUDA nor nvcc.
#   cmake --build build --target cuda_report      registers, spills and what the compiler made of every kernel, in build/cuda-report.txt;
#                                                 copied to bench/results/cuda-kernels.txt when kernels change, by the release
#                                                 preset, which compiles for all cards; the test preset does for the oldest, for
#                                                 Hopper and for the newest: a minute of the compiler each
option(INGOT_CUDA "build libingot-cuda.so where nvcc is found" ON)
set(INGOT_CUDA_CAPABILITIES "" CACHE STRING "compute capabilities to build for (scripts/build-cuda); empty: all")
find_program(INGOT_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
if(NOT INGOT_CUDA OR NOT INGOT_NVCC OR CMAKE_CROSSCOMPILING OR INGOT_SANITIZE)
  return()
endif()

file(GLOB cuda_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/cuda/*.h ${CMAKE_SOURCE_DIR}/kernels/cuda/*.cu ${CMAKE_SOURCE_DIR}/kernels/cuda/*.def
     ${CMAKE_SOURCE_DIR}/kernels/formats/*.h ${CMAKE_SOURCE_DIR}/kernels/formats/formats.def ${CMAKE_SOURCE_DIR}/kernels/activations.def
     ${CMAKE_SOURCE_DIR}/base/files/types.def)
set(cuda_library ${CMAKE_BINARY_DIR}/libingot-cuda.so)
set(cuda_flags $<$<BOOL:${INGOT_WERROR}>:-Werror=all-warnings>)
set(cuda_cubins ${CMAKE_BINARY_DIR}/sm_80.cubin ${CMAKE_BINARY_DIR}/sm_90a.cubin) # what is disassembled
add_custom_command(OUTPUT ${cuda_library} BYPRODUCTS ${cuda_cubins}
  COMMAND ${CMAKE_COMMAND} -E env NVCC=${INGOT_NVCC} NVCC_FLAGS=${cuda_flags} ${CMAKE_SOURCE_DIR}/scripts/build-cuda ${cuda_library} ${INGOT_CUDA_CAPABILITIES}
  DEPENDS ${cuda_sources} ${CMAKE_SOURCE_DIR}/scripts/build-cuda COMMENT "Compiling libingot-cuda.so" VERBATIM)
add_custom_target(ingot_cuda ALL DEPENDS ${cuda_library})

set(cuda_report ${CMAKE_BINARY_DIR}/cuda-report.txt)
add_custom_command(OUTPUT ${cuda_report} COMMAND ${CMAKE_SOURCE_DIR}/scripts/ptxas-report ${cuda_library}.log > ${cuda_report}
  COMMAND ${CMAKE_SOURCE_DIR}/scripts/sass-report ${cuda_cubins} >> ${cuda_report}
  DEPENDS ${cuda_library} ${CMAKE_SOURCE_DIR}/scripts/ptxas-report ${CMAKE_SOURCE_DIR}/scripts/sass-report VERBATIM)
add_custom_target(cuda_report DEPENDS ${cuda_report})
install(FILES ${cuda_library} DESTINATION ${CMAKE_INSTALL_LIBDIR})
