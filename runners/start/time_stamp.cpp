#include "runners/start/time_stamp.hpp"

namespace seg {

std::string time_stamp(std::time_t time) {
  std::tm local{};
  localtime_r(&time, &local);
  char buffer[32];
  std::strftime(buffer, sizeof(buffer), "%Y%m%d_%H%M%S", &local);
  return buffer;
}

}  // namespace seg
