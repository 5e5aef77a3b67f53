#include "registry/printed.hpp"

#include <cstdarg>
#include <cstdio>

#include "registry/error.hpp"

namespace seg {

std::string printed(const char* format, ...) {
  std::va_list values, again;
  va_start(values, format);
  va_copy(again, values);
  const int size = std::vsnprintf(nullptr, 0, format, values);
  va_end(values);
  SEG_CHECK(size >= 0, "not a format of printf: ", format);
  std::string out(static_cast<size_t>(size), '\0');
  std::vsnprintf(out.data(), out.size() + 1, format, again);
  va_end(again);
  return out;
}

}  // namespace seg
