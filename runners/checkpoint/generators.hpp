/// The random generators of a process, for dropout and initialisation.
#pragma once
#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

namespace seg {

/// State of the CPU's generator and, on a GPU, of its own; uint8 [n].
at::Tensor generator_state(c10::Device device);
/// \throws CheckpointError where the state is too short.
void set_generator_state(c10::Device device, const at::Tensor& state);

}  // namespace seg
