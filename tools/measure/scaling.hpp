/// What it costs to train in several processes.
#pragma once
#include "runners/start/run_config.hpp"
#include "segcore/dist/communicator.hpp"
#include "tools/measure/measurement.hpp"

namespace seg {

/// Steps of all processes at the same time, by turns alone and joined: images a second of both, and
/// the share of a joined step that waits for the exchange of gradients beyond the backward pass.
/// Collective; the result is that of the first process.
/// \param communicator  of several processes.
Measured benchmark_scaling(const BenchmarkArguments& arguments, const RunConfig& config,
                           Communicator& communicator, c10::Device device);

}  // namespace seg
