#include "runners/sweep/gpus.hpp"

#include <cstdlib>
#include <sstream>

#include "runners/start/device.hpp"

namespace seg {

std::vector<std::string> names_of_visible_gpus() {
  std::vector<std::string> out;
  if (const char* visible = std::getenv("CUDA_VISIBLE_DEVICES")) {
    std::istringstream in(visible);
    for (std::string gpu; std::getline(in, gpu, ',');) {
      if (gpu == "-1") break;  // hides those behind it
      out.push_back(gpu);
    }
    return out;
  }
  std::string problem;
  const int count = visible_gpus(problem);
  for (int i = 0; i < count; ++i) out.push_back(std::to_string(i));
  return out;
}

}  // namespace seg
