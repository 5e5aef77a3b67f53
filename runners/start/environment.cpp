#include "runners/start/environment.hpp"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <c10/util/Exception.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/utsname.h>
#include <torch/version.h>

#include <opencv2/core/version.hpp>
#include <set>
#include <thread>

#include "registry/log.hpp"
#include "registry/text.hpp"
#include "runners/start/device.hpp"
#include "runners/start/run_config.hpp"
#include "runners/start/run_info.hpp"
#include "segcore/dist/communicator.hpp"
#include "segcore/memory/caching_allocator.hpp"
#include "segcore/memory/mat_allocator.hpp"

namespace seg {
namespace {

/// 13000 -> "13.0", 91900 -> "9.19.0".
std::string version_text(int64_t number, int64_t major, int64_t minor) {
  if (number <= 0) return "unknown";
  return text(number / major, '.', number % major / minor);
}

std::string nccl_version() {
  using GetVersion = int (*)(int*);
  const auto get = reinterpret_cast<GetVersion>(dlsym(RTLD_DEFAULT, "ncclGetVersion"));
  int number = 0;
  if (!get || get(&number) != 0) return "unknown";
  return text(number / 10000, '.', number / 100 % 100, '.', number % 100);
}

/// Puts LibTorch's warnings among our own, each once.
class WarningsInLog final : public c10::WarningHandler {
 public:
  void process(const c10::Warning& warning) override {
    // Layouts of gradients and of c10d's buffers differ by one copy, which no config can change.
    if (warning.msg().find("Grad strides do not match") != std::string::npos) return;
    if (seen_.insert(warning.msg()).second) log::warn("LibTorch: ", warning.msg());
  }

 private:
  std::set<std::string> seen_;
};

/// In this thread, to which LibTorch brings those of its backward passes.
void log_warnings_of_libtorch() {
  static WarningsInLog handler;
  c10::WarningUtils::set_warning_handler(&handler);
}

}  // namespace

void apply_environment(const EnvParams& env, bool deterministic) {
  // cuBLAS reads it when it is first used; without it equal products may differ.
  if (deterministic) setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  log_warnings_of_libtorch();
  install_caching_allocator();
  install_mat_allocator();
  if (env.num_threads) at::set_num_threads(static_cast<int>(*env.num_threads));
  at::Context& context = at::globalContext();
  context.setBenchmarkCuDNN(env.cudnn_benchmark && !deterministic);
  context.setDeterministicCuDNN(deterministic);
  // LibTorch warns about operators without a deterministic algorithm on GPUs.
  context.setDeterministicAlgorithms(deterministic, /*warn_only=*/true);
  context.setDeterministicFillUninitializedMemory(false);
  // With warn_only, LibTorch keeps fused attention on GPUs, which is not deterministic.
  if (deterministic && context.hasCUDA()) {
    context.setSDPUseFlash(false);
    context.setSDPUseMemEfficient(false);
    context.setSDPUseCuDNN(false);
  }
  context.setAllowTF32CuBLAS(env.allow_tf32);
}

std::string environment_text(const RunInfo& run) {
  const std::string line(60, '-');
  utsname system{};
  uname(&system);
  const EnvParams& env = run.config->env_cfg;
  std::string out = text("\n", line, "\nSystem environment:\n");
  const auto add = [&](const std::string& key, const auto& value) {
    out += text("    ", key, ": ", value, "\n");
  };
  add("Platform", text(system.sysname, ' ', system.release, ' ', system.machine));
  add("CPU cores", std::thread::hardware_concurrency());
  add("CPU capability", at::get_cpu_capability());
  add("Threads of an operator", at::get_num_threads());
  add("Compiler", text("GCC ", __VERSION__));
  add("LibTorch", TORCH_VERSION);
  if (run.device.is_cpu()) {
    add("CUDA", cuda_problem().empty() ? std::string("not used") : "not used, " + cuda_problem());
  } else {
    add("GPU", run.device.str());
    add("CUDA", version_text(at::Context::versionCUDART(), 1000, 10));
    add("cuDNN", version_text(at::Context::versionCuDNN(), 10000, 100));
    add("NCCL", nccl_version());
    add("CUDA kernels", cuda_module_problem().empty() ? "segcore's own" : cuda_module_problem());
  }
  add("OpenCV", CV_VERSION);
  out += "\nRuntime environment:\n";
  add("device", run.device.str());
  add("memory_format", env.memory_format);
  add("cudnn_benchmark", env.cudnn_benchmark ? "true" : "false");
  add("seed", run.seed);
  add("deterministic", run.config->randomness.deterministic ? "true" : "false");
  add("Distributed launcher", run.config->launcher);
  add("Processes", run.communicator->size());
  return out + line + "\n";
}

}  // namespace seg
