/// The joined processes of a run with its folders, its log and its seed.
#pragma once
#include <memory>
#include <optional>

#include "runners/start/parts.hpp"
#include "runners/start/run_info.hpp"

namespace seg {

struct Session {
  std::unique_ptr<Communicator> communicator;
  RunInfo run;
};

/// A run before its first step.
struct StartedRun {
  Session session;
  RunParts parts;
};

/// Chooses the device, seeds the generators and builds the parts; only then joins the processes,
/// makes the folders of this launch, opens the log and agrees on the seed. The log begins with the
/// environment and the config.
/// \param config  must outlive the run.
/// \param wanted  without place and device, which are found here.
/// \param resumed_seed  of the checkpoint that the run is resumed from.
/// \throws UsageError where the device or the launcher's environment is missing; ConfigError with
///         all that is wrong with the parts.
StartedRun start_run(const RunConfig& config, PartsWanted wanted,
                     std::optional<uint64_t> resumed_seed = {});

}  // namespace seg
