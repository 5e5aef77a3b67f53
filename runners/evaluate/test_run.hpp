/// Tests the weights of a checkpoint.
#pragma once
#include <string>

#include "runners/log/scalars.hpp"
#include "runners/start/options.hpp"
#include "runners/start/run_config.hpp"

namespace seg {

/// Evaluates a checkpoint on the test set of a config; the outputs are in the work dir.
/// \return the metrics.
/// \throws RunEnded with 20 after a signal.
Scalars run_test(const RunConfig& config, const std::string& checkpoint,
                 const TestOptions& options = {});

}  // namespace seg
