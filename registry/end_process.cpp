#include "registry/end_process.hpp"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>

namespace seg {

void end_process(int code) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  std::exit(code);
#else
  std::cout.flush();
  std::clog.flush();
  std::fflush(nullptr);
  ::_exit(code);
#endif
}

}  // namespace seg
