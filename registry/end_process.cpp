#include "registry/end_process.hpp"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>

namespace seg {

void end_process(int code) {
#if defined(SEG_SANITIZED)
  std::exit(code);
#else
  std::cout.flush();
  std::clog.flush();
  std::fflush(nullptr);
  ::_exit(code);
#endif
}

}  // namespace seg
