# Checks which layer includes which: registry <- segcore <- runners <- tools, and where third-party
# headers may be seen. Run as: cmake -DROOT=<source> -P check_layers.cmake
cmake_minimum_required(VERSION 3.24)

set(problems)
set(count 0)

# check(FOLDER, the project's folders it may include, a regular expression of what it must not)
function(check folder own_allowed forbidden)
  file(GLOB_RECURSE files ${ROOT}/${folder}/*.hpp ${ROOT}/${folder}/*.cpp ${ROOT}/${folder}/*.cu
       ${ROOT}/${folder}/*.cuh)
  foreach(file ${files})
    file(RELATIVE_PATH name ${ROOT} ${file})
    math(EXPR count "${count} + 1")
    file(STRINGS ${file} lines REGEX "^[ \t]*#[ \t]*include")
    foreach(line ${lines})
      if(NOT line MATCHES "include[ \t]*[<\"]([^>\"]+)[>\"]")
        continue()
      endif()
      set(included ${CMAKE_MATCH_1})
      if(included MATCHES "\\.\\./")
        list(APPEND problems "${name}: includes '${included}'; write paths from the root")
      endif()
      if(included MATCHES "^(registry|segcore|runners|tools|tests)/" AND
         NOT included MATCHES "^(${own_allowed})/")
        list(APPEND problems "${name}: includes '${included}'; ${folder}/ may include only ${own_allowed}")
      endif()
      if(forbidden AND included MATCHES "${forbidden}" AND
         NOT "${name}|${included}" MATCHES "${EXCEPTIONS}")
        list(APPEND problems "${name}: includes '${included}', which ${folder}/ does not see")
      endif()
    endforeach()
  endforeach()
  set(problems ${problems} PARENT_SCOPE)
  set(count ${count} PARENT_SCOPE)
endfunction()

set(torch "^(torch/|ATen/|c10/|caffe2/)")
set(opencv "^opencv2/")
set(yaml_and_log "^(yaml-cpp/|spdlog/)")
set(processes "^(nccl\\.h|gloo/|torch/csrc/distributed/)")

# yaml-cpp and spdlog are details of one file each.
set(EXCEPTIONS "^registry/yaml_reader\\.cpp\\|yaml-cpp/|^registry/log\\.cpp\\|spdlog/")
check(registry "registry" "${torch}|${opencv}|${yaml_and_log}|${processes}")
set(EXCEPTIONS "^$")
check(segcore "registry|segcore" "${yaml_and_log}|${processes}")
check(runners "registry|segcore|runners" "${yaml_and_log}")
check(tools "registry|segcore|runners|tools" "${yaml_and_log}")

if(count LESS 50)
  list(APPEND problems "only ${count} files were found below '${ROOT}'")
endif()
if(problems)
  list(JOIN problems "\n" text)
  message(FATAL_ERROR "${text}")
endif()
message(STATUS "${count} files include only what their layer may")
