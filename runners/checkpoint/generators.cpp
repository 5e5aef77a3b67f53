#include "runners/checkpoint/generators.hpp"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>

#include "segcore/io/checkpoint.hpp"
#include "segcore/torch.hpp"

namespace seg {

at::Tensor generator_state(c10::Device device) {
  const at::Generator& cpu = at::globalContext().defaultGenerator(c10::kCPU);
  at::Tensor state = cpu.get_state();
  if (!device.is_cpu()) {
    const auto& gpu = at::globalContext().defaultGenerator(device);
    state = at::cat({state, gpu.get_state()});
  }
  return state;
}

void set_generator_state(c10::Device device, const at::Tensor& state) {
  at::Generator cpu = at::globalContext().defaultGenerator(c10::kCPU);
  const int64_t cpu_bytes = cpu.get_state().numel();
  if (state.numel() < cpu_bytes) throw CheckpointError("the state of the generator is too short");
  cpu.set_state(state.narrow(0, 0, cpu_bytes).clone());
  if (!device.is_cpu() && state.numel() > cpu_bytes) {
    at::Generator gpu = at::globalContext().defaultGenerator(device);
    gpu.set_state(state.narrow(0, cpu_bytes, state.numel() - cpu_bytes).clone());
  }
}

}  // namespace seg
