#include "runners/sweep/gpus.hpp"

#include <dlfcn.h>

#include <cstdlib>
#include <sstream>

namespace seg {

std::vector<std::string> visible_gpus() {
  std::vector<std::string> out;
  if (const char* visible = std::getenv("CUDA_VISIBLE_DEVICES")) {
    std::istringstream in(visible);
    for (std::string gpu; std::getline(in, gpu, ',');) {
      if (gpu == "-1") break;  // hides those behind it
      out.push_back(gpu);
    }
    return out;
  }
  // The driver itself: LibTorch's CUDA part takes seconds to load.
  void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!driver) return out;
  using Init = int (*)(unsigned);
  using Count = int (*)(int*);
  const auto init = reinterpret_cast<Init>(dlsym(driver, "cuInit"));
  const auto count = reinterpret_cast<Count>(dlsym(driver, "cuDeviceGetCount"));
  int devices = 0;
  if (!init || !count || init(0) != 0 || count(&devices) != 0) return out;
  for (int i = 0; i < devices; ++i) out.push_back(std::to_string(i));
  return out;
}

}  // namespace seg
