#include "registry/terminal.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>

namespace seg {

int terminal_width(int descriptor) {
  constexpr long kNarrowest = 20, kWidest = 1000;  // beyond them it is no width of a terminal
  if (const char* columns = std::getenv("COLUMNS")) {
    char* rest = nullptr;
    const long given = std::strtol(columns, &rest, 10);
    if (rest != columns && *rest == '\0' && given >= kNarrowest && given <= kWidest) {
      return static_cast<int>(given);
    }
  }
  winsize size{};
  if (isatty(descriptor) == 1 && ioctl(descriptor, TIOCGWINSZ, &size) == 0 &&
      size.ws_col >= kNarrowest) {
    return size.ws_col;
  }
  return 80;
}

}  // namespace seg
