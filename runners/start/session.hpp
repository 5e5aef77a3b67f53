/// The joined processes of a run with its folders, its log and its seed.
#pragma once
#include <memory>
#include <optional>

#include "runners/start/processes.hpp"
#include "runners/start/run_config.hpp"
#include "runners/start/run_info.hpp"

namespace seg {

/// This process before it joins others and writes files.
struct LocalProcess {
  LaunchPlace place;
  c10::Device device = c10::kCPU;
  uint64_t seed = 0;  ///< where the config has none, each process has drawn its own
};

/// Chooses the device, applies `env_cfg` and seeds the generators.
/// \param resumed_seed  of the checkpoint that the run is resumed from.
/// \throws UsageError where the device or the launcher's environment is missing.
LocalProcess start_process(const RunConfig& config, std::optional<uint64_t> resumed_seed = {});

struct Session {
  std::unique_ptr<Communicator> communicator;
  RunInfo run;
};

/// Joins the processes, makes the folders of this launch, opens the log and agrees on the seed. The
/// log then begins with the environment and the config.
/// \param config  must outlive the session.
Session open_session(const RunConfig& config, const LocalProcess& process);

}  // namespace seg
