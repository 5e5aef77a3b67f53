/// Trains the model of a configuration.
#pragma once
#include <cstddef>

#include "runners/start/run_config.hpp"
#include "segcore/data/dataset_check.hpp"

namespace seg {

/// Trains; the outputs are in the work dir.
/// \throws RunEnded with 20 after a signal, with 21 where the loss is not finite, with 22 where
///         another process is lost.
/// \param checked  annotations of each data set that are looked at before the first step;
///                 DatasetCheckParams::kAll reads all files.
void run_training(RunConfig config, size_t checked = DatasetCheckParams().annotations);

}  // namespace seg
