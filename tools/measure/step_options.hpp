/// Options of programs that measure training steps.
#pragma once
#include <CLI/CLI.hpp>
#include <functional>

#include "runners/start/run_config.hpp"
#include "tools/measure/measurement.hpp"

namespace seg {

/// CONFIG, `--iters`, `--warmup`, `--batch-size`, `--shape`, `--amp`, `--device` and
/// `--cfg-options`; the defaults are those of `arguments`.
void add_step_options(CLI::App& app, BenchmarkArguments& arguments);

/// The configuration with these options.
/// \param shape  of images that are not the configuration's, and need no padding to that; or empty.
/// \param edit   more to change, may be null.
RunConfig load_measured(const BenchmarkArguments& arguments, const std::vector<int64_t>& shape,
                        const std::function<void(Config&)>& edit = nullptr);

/// The device of one process.
c10::Device measured_device(const BenchmarkArguments& arguments, const RunConfig& config);

}  // namespace seg
