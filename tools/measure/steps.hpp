/// Times of training steps, of the data pipeline, and of the start of a run.
#pragma once
#include <c10/core/Device.h>

#include "runners/start/run_config.hpp"
#include "tools/measure/measurement.hpp"

namespace seg {

/// A training step on random images that are in memory.
Measured benchmark_step(const BenchmarkArguments& arguments, const RunConfig& config,
                        c10::Device device);
/// Batches of the training pipeline, loaded and dropped.
Measured benchmark_data(const BenchmarkArguments& arguments, const RunConfig& config);
/// Training as a run does it, with the time that steps wait for the loader.
Measured benchmark_train(const BenchmarkArguments& arguments, const RunConfig& config,
                         c10::Device device);
/// From the start of the process to the end of the first training step; must come first.
Measured benchmark_start(const RunConfig& config, c10::Device device);

}  // namespace seg
