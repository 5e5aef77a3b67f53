/// Starts the processes of a run on this machine: `--nproc`.
#pragma once
#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

namespace seg {

/// `--nproc 4`, `--nproc gpu`.
void add_nproc(CLI::App& app, std::optional<std::string>& nproc);

/// What runs once for each process of a run.
struct LocalLaunch {
  std::string program;             ///< the file that is executed
  std::vector<std::string> words;  ///< its command line, the first is its name
  int count = 1;
  /// Seconds that the others have to end by themselves once one has failed. They find out from
  /// each other, and may save what they have.
  int grace_s = 60;
  int terminate_s = 10;  ///< then, between SIGTERM and SIGKILL
};

/// This program with these words, as `--nproc` asks; nothing where this process does the work
/// itself. In the one that starts others only errors are logged, as the first of them repeats the
/// warnings.
/// \param words  argv.
/// \throws UsageError where `--nproc` cannot be served.
std::optional<LocalLaunch> local_launch(const std::optional<std::string>& nproc,
                                        const std::optional<std::string>& launcher,
                                        const std::vector<std::string>& words);

/// Starts the processes, gives them the environment of torchrun, forwards signals to them, and
/// returns when all have ended: each line of those that are not the first begins with its rank.
/// NNODES, NODE_RANK, MASTER_ADDR and MASTER_PORT of the environment make them a part of a run on
/// several machines.
/// \return the exit code of the first that failed, of one killed 128 plus the signal; one that
///         merely lost a peer (22) counts only if all that failed did.
/// \throws UsageError where the environment does not fit.
int launch_processes(const LocalLaunch& launch);

}  // namespace seg
