/// Joins the processes that a launcher started.
#pragma once
#include <memory>
#include <string>

#include "segcore/dist/communicator.hpp"

namespace seg {

struct EnvParams;

/// The processes of this run for `launcher`: "none", "pytorch", "slurm" or "mpi".
/// \throws UsageError where the launcher's environment is missing or cannot be served.
std::unique_ptr<Communicator> join_processes(const std::string& launcher, const EnvParams& env);

/// The place of this process among those of its machine.
int local_rank(const std::string& launcher);

}  // namespace seg
