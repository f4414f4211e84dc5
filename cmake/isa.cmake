# One folder per instruction set, compiled with its own flags; which one runs is chosen at run time (kernels/cpu/isa.def).
set(INGOT_ISA_SOURCES)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|amd64|AMD64")
  file(GLOB avx2 CONFIGURE_DEPENDS kernels/cpu/avx2/*.c)
  file(GLOB avx512 CONFIGURE_DEPENDS kernels/cpu/avx512/*.c)
  set_source_files_properties(${avx2} PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma;-mf16c;-mbmi2")
  set_source_files_properties(${avx512} PROPERTIES COMPILE_OPTIONS
    "-mavx2;-mfma;-mf16c;-mbmi2;-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx512vnni;-mavx512bf16;-mavx512vbmi;-mprefer-vector-width=512")
  list(APPEND INGOT_ISA_SOURCES ${avx2} ${avx512})
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  file(GLOB neon CONFIGURE_DEPENDS kernels/cpu/neon/*.c)
  list(APPEND INGOT_ISA_SOURCES ${neon})
endif()
