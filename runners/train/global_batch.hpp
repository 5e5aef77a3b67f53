/// How the processes of a run share its batches.
#pragma once
#include <string>

#include "runners/start/run_config.hpp"
#include "segcore/io/value.hpp"

namespace seg {

/// What is worth saying about the batches of this run; empty where nothing is.
struct BatchRemarks {
  std::string info, warning;
};

/// Settles `train_dataloader.batch_size`, which is that of each process, from `global_batch`. A
/// resumed run on another number of processes keeps the batches of the checkpoint, and with them
/// the order of samples and the schedules, unless its config asks for another size.
/// \param world  processes of this run.
/// \param resumed  the checkpoint, null for none.
/// \throws ConfigError where the processes cannot share `global_batch` equally.
BatchRemarks share_batches(RunConfig& config, int world, const Value* resumed);

}  // namespace seg
