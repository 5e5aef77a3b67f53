/// Joins the processes that a launcher started.
#pragma once
#include <c10/core/Device.h>

#include <memory>
#include <string>

#include "segcore/dist/communicator.hpp"

namespace seg {

struct EnvParams;

/// The place of this process among those of its machine.
/// \throws UsageError where the launcher's environment is missing.
int local_rank(const std::string& launcher);

/// The place of this process among all of the run, known before they are joined.
struct LaunchPlace {
  int rank = 0, size = 1;
};
/// \throws UsageError where the launcher's environment is missing or makes no sense.
LaunchPlace launch_place(const std::string& launcher);

/// Whether this process speaks for all before they are joined; also true where the launcher's
/// environment is missing.
bool is_first_process(const std::string& launcher);

/// The processes of this run for `launcher`: "none", "pytorch", "slurm" or "mpi".
/// \throws UsageError where the launcher's environment is missing or cannot be served.
std::unique_ptr<Communicator> join_processes(const std::string& launcher, const EnvParams& env,
                                             c10::Device device);

}  // namespace seg
