#include "runners/dist/launch.hpp"

#include <cstdlib>
#include <optional>

#include "registry/error.hpp"
#include "runners/run_config.hpp"

namespace seg {
namespace {

/// Where a launcher writes the place of a process.
struct LaunchVariables {
  const char* rank;
  const char* size;
  const char* local_rank;
};

LaunchVariables launch_variables(const std::string& launcher) {
  if (launcher == "slurm") return {"SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"};
  if (launcher == "mpi") {
    return {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"};
  }
  return {"RANK", "WORLD_SIZE", "LOCAL_RANK"};
}

int launch_number(const std::string& launcher, const char* variable) {
  const char* value = std::getenv(variable);
  if (!value) {
    throw UsageError(text("launcher '", launcher, "': the environment has no ", variable,
                          ". Start the processes with ",
                          launcher == "pytorch" ? "torchrun"
                          : launcher == "slurm" ? "srun"
                                                : "mpirun",
                          ", or leave out --launcher"));
  }
  return std::atoi(value);
}

}  // namespace

int local_rank(const std::string& launcher) {
  if (launcher == "none") return 0;
  return launch_number(launcher, launch_variables(launcher).local_rank);
}

std::unique_ptr<Communicator> join_processes(const std::string& launcher, const EnvParams&) {
  if (launcher == "none") return std::make_unique<SingleProcess>();
  const LaunchVariables names = launch_variables(launcher);
  launch_number(launcher, names.rank);
  const int size = launch_number(launcher, names.size);
  if (size > 1) {
    throw UsageError(text("launcher '", launcher, "' started ", size,
                          " processes, but this build trains with one only"));
  }
  return std::make_unique<SingleProcess>();
}

}  // namespace seg
