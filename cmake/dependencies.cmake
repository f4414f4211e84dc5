# Libraries from the system's packages; docs/DEPENDENCIES.md gives the reason for each.
find_package(PkgConfig REQUIRED)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(CURL REQUIRED IMPORTED_TARGET libcurl)
pkg_check_modules(MICROHTTPD REQUIRED IMPORTED_TARGET libmicrohttpd)
pkg_check_modules(CRYPTO REQUIRED IMPORTED_TARGET libcrypto)
pkg_check_modules(ZLIB REQUIRED IMPORTED_TARGET zlib)
pkg_check_modules(YAML REQUIRED IMPORTED_TARGET yaml-0.1)
pkg_check_modules(EDIT REQUIRED IMPORTED_TARGET libedit)

add_library(ingot_dependencies INTERFACE)
target_link_libraries(ingot_dependencies INTERFACE PkgConfig::PCRE2 PkgConfig::UTF8PROC PkgConfig::CURL PkgConfig::MICROHTTPD
                      PkgConfig::CRYPTO PkgConfig::ZLIB PkgConfig::YAML Threads::Threads m)
add_library(ingot_shell_dependencies INTERFACE)
target_link_libraries(ingot_shell_dependencies INTERFACE PkgConfig::EDIT)
