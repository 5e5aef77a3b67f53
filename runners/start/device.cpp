#include "runners/start/device.hpp"

#include <ATen/DeviceAccelerator.h>
#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>
#include <regex>

#include "registry/error.hpp"
#include "segcore/memory/device_memory.hpp"

namespace seg {
namespace {

struct CudaState {
  bool usable = false;
  std::string problem;
  std::string module_problem = "no GPU is used";
};

/// The folder of the library that holds `symbol`, with a slash; "" where it is not known.
std::string folder_of(const void* symbol) {
  Dl_info here{};
  if (!dladdr(symbol, &here) || !here.dli_fname) return "";
  return std::filesystem::path(here.dli_fname).parent_path().string() + "/";
}

/// "" or why it cannot be loaded.
std::string load_cuda_module() {
  const std::string path =
      folder_of(reinterpret_cast<const void*>(&load_cuda)) + "libsegcore_cuda.so";
  if (!std::filesystem::exists(path)) {
    return text("segcore was built without a CUDA tool kit: there is no ", path);
  }
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  void* door = library ? dlsym(library, "segcore_cuda_module") : nullptr;
  if (!door) {
    const char* reason = dlerror();
    return text("segcore's CUDA library cannot be loaded: ", reason ? reason : "unknown");
  }
  reinterpret_cast<void (*)()>(door)();
  return "";
}

CudaState load_cuda_once() {
  CudaState state;
  if (visible_gpus(state.problem) == 0) return state;
  // Beside libtorch_cpu.so, wherever the loader found that one.
  const std::string folder =
      folder_of(reinterpret_cast<const void*>(&at::accelerator::deviceCount));
  if (!dlopen((folder + "libtorch_cuda.so").c_str(), RTLD_NOW | RTLD_GLOBAL)) {
    const char* reason = dlerror();
    state.problem = text("LibTorch's CUDA part cannot be loaded: ", reason ? reason : "unknown");
    return state;
  }
  if (at::accelerator::getAccelerator() != c10::DeviceType::CUDA ||
      at::accelerator::deviceCount() == 0) {
    state.problem = "LibTorch finds no GPU that it can use";
    return state;
  }
  state.usable = true;
  state.module_problem = load_cuda_module();
  return state;
}

const CudaState& cuda_state() {
  static const CudaState state = load_cuda_once();
  return state;
}

}  // namespace

// The driver itself is asked, which costs a millisecond, before LibTorch's CUDA part is loaded,
// which costs seconds.
int visible_gpus(std::string& problem) {
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  if (visible && (std::string_view(visible).empty() || std::string_view(visible) == "-1")) {
    problem = "CUDA_VISIBLE_DEVICES hides all GPUs";
    return 0;
  }
  void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!driver) {
    problem = "no NVIDIA driver is installed";
    return 0;
  }
  using Init = int (*)(unsigned);
  using Count = int (*)(int*);
  const auto init = reinterpret_cast<Init>(dlsym(driver, "cuInit"));
  const auto count = reinterpret_cast<Count>(dlsym(driver, "cuDeviceGetCount"));
  int devices = 0;
  if (!init || !count || init(0) != 0 || count(&devices) != 0 || devices == 0) {
    problem = "the NVIDIA driver finds no GPU";
    return 0;
  }
  return devices;
}

bool load_cuda() { return cuda_state().usable; }
const std::string& cuda_problem() { return cuda_state().problem; }
const std::string& cuda_module_problem() { return cuda_state().module_problem; }

int gpu_of_process(const std::string& launcher, int local_rank, int count) {
  return launcher == "slurm" || launcher == "mpi" ? local_rank % count : local_rank;
}

c10::Device choose_device(const std::string& wanted, int local_rank, const std::string& launcher) {
  if (!std::regex_match(wanted, std::regex("auto|cpu|cuda(:[0-9]+)?"))) {
    throw UsageError(text("device: expected auto, cpu, cuda or cuda:N, got '", wanted, "'"));
  }
  if (wanted == "cpu") return c10::kCPU;
  if (!load_cuda()) {
    if (wanted == "auto") return c10::kCPU;
    throw UsageError(text("device '", wanted, "' cannot be used: ", cuda_problem()));
  }
  const int count = at::accelerator::deviceCount();
  const size_t colon = wanted.find(':');
  const int index = colon == std::string::npos ? gpu_of_process(launcher, local_rank, count)
                                               : std::atoi(wanted.c_str() + colon + 1);
  if (index >= count) {
    throw UsageError(text("device '", wanted, "': there is no GPU ", index, ", only ", count));
  }
  at::accelerator::setDeviceIndex(static_cast<c10::DeviceIndex>(index));
  return {c10::kCUDA, static_cast<c10::DeviceIndex>(index)};
}

at::MemoryFormat choose_memory_format(const std::string& wanted) {
  return wanted == "channels_last" ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
}

std::optional<int64_t> take_peak_memory_mb(c10::Device device) {
  if (device.is_cpu()) return std::nullopt;
  if (!c10::getDeviceAllocator(device.type())->initialized()) return 0;
  return take_memory_peak(device) / (1024 * 1024);
}

void empty_device_cache(c10::Device device) {
  if (!device.is_cpu()) c10::getDeviceAllocator(device.type())->emptyCache();
}

void synchronize_device(c10::Device device) {
  if (!device.is_cpu()) at::accelerator::synchronizeDevice(device.index());
}

}  // namespace seg
