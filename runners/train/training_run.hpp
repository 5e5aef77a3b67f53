/// Trains the model of a configuration.
#pragma once
#include "runners/start/run_config.hpp"

namespace seg {

/// Trains; the outputs are in the work dir.
/// \throws RunEnded with 20 after a signal, with 21 where the loss is not finite, with 22 where
///         another process is lost.
void run_training(const RunConfig& config);

}  // namespace seg
