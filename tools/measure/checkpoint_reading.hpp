/// How fast the weights of a checkpoint are read.
#pragma once
#include "tools/measure/measurement.hpp"

namespace seg {

/// Reading a checkpoint and copying its weights into existing tensors, as loading does; with
/// `python`, torch.load beside it.
Measured benchmark_checkpoint(const BenchmarkArguments& arguments);

}  // namespace seg
