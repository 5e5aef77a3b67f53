/// The device of a run and its GPU functions. No CUDA symbol is linked: LibTorch's CUDA
/// part is loaded where a driver is, and after it segcore's own, libsegcore_cuda.so.
#pragma once
#include <c10/core/Device.h>
#include <c10/core/MemoryFormat.h>

#include <cstdint>
#include <optional>
#include <string>

namespace seg {

/// How many GPUs the driver shows this process. Neither LibTorch's CUDA part nor a GPU is touched.
/// \param problem  is set to the reason where there is none: "no NVIDIA driver is installed", ...
int visible_gpus(std::string& problem);

/// Loads LibTorch's CUDA part where a driver with a visible GPU is present; cheap where none is.
/// Repeated calls give the first one's answer.
/// \return whether CUDA can be used.
bool load_cuda();
/// Why CUDA cannot be used: "no NVIDIA driver", ...; "" where it can.
const std::string& cuda_problem();
/// Why segcore's own CUDA library (kernels, NCCL) is not loaded: "" where it is. Without it GPUs
/// work through LibTorch's operators alone.
const std::string& cuda_module_problem();

/// Which of the `count` GPUs that a process sees is its own. Schedulers may show each of its tasks
/// only the GPUs that are its own, so that the local rank wraps around; under other launchers more
/// processes than GPUs are a mistake.
int gpu_of_process(const std::string& launcher, int local_rank, int count);

/// The device of this process for `env_cfg.device`: "auto", "cpu", "cuda" or "cuda:1". "auto" takes
/// the GPU of `local_rank` where there is one.
/// \param launcher  as in `launcher` of the config.
/// \throws UsageError where the config asks for a GPU and none can be used.
c10::Device choose_device(const std::string& wanted, int local_rank,
                          const std::string& launcher = "none");

/// How the maps of a model lie in memory for `env_cfg.memory_format`: "auto", "contiguous" or
/// "channels_last".
at::MemoryFormat choose_memory_format(const std::string& wanted);

/// The largest memory in use on the device since the last call, in MB; nothing on a CPU.
std::optional<int64_t> take_peak_memory_mb(c10::Device device);
/// Returns unused device memory to the driver.
void empty_device_cache(c10::Device device);
/// Waits for all work queued on the device.
void synchronize_device(c10::Device device);

}  // namespace seg
