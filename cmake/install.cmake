# Program, library, header, pkg-config file, man page, completions. The last three come from the program's own tables.
install(TARGETS ingot ingot_static ingot_shared
        RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES runtime/ingot.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

configure_file(cmake/ingot.pc.in ingot.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/ingot.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

set(pages ${CMAKE_BINARY_DIR}/pages)
add_custom_command(OUTPUT ${pages}/ingot.1 ${pages}/ingot.bash ${pages}/_ingot ${pages}/ingot.fish
  COMMAND ${CMAKE_COMMAND} -E make_directory ${pages}
  COMMAND ingot --man-page > ${pages}/ingot.1
  COMMAND ingot --completion bash > ${pages}/ingot.bash
  COMMAND ingot --completion zsh > ${pages}/_ingot
  COMMAND ingot --completion fish > ${pages}/ingot.fish
  DEPENDS ingot VERBATIM)
add_custom_target(ingot_pages ALL DEPENDS ${pages}/ingot.1)
install(FILES ${pages}/ingot.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${pages}/ingot.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME ingot)
install(FILES ${pages}/_ingot DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
install(FILES ${pages}/ingot.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
