#include "runners/start/processes.hpp"

#include <array>
#include <cstdio>
#include <cstdlib>

#include "registry/error.hpp"
#include "registry/log.hpp"
#include "runners/dist/process_group.hpp"
#include "runners/start/run_config.hpp"

namespace seg {
namespace {

/// Where a launcher writes the place of a process.
struct LaunchVariables {
  const char* rank;
  const char* size;
  const char* local_rank;
  const char* program;
};

LaunchVariables launch_variables(const std::string& launcher) {
  if (launcher == "slurm") return {"SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "srun"};
  if (launcher == "mpi") {
    return {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "mpirun"};
  }
  return {"RANK", "WORLD_SIZE", "LOCAL_RANK", "torchrun"};
}

int launch_number(const std::string& launcher, const char* variable) {
  const char* value = std::getenv(variable);
  char* end = nullptr;
  const long number = value ? std::strtol(value, &end, 10) : 0;
  if (!value || end == value || *end != '\0' || number < 0) {
    throw UsageError(text("launcher '", launcher, "': the environment has no number ", variable,
                          ". Start the processes with ", launch_variables(launcher).program,
                          ", or leave out --launcher"));
  }
  return static_cast<int>(number);
}

/// The first of the machines that Slurm gave.
std::string first_slurm_host() {
  const char* list = std::getenv("SLURM_NODELIST");
  if (!list) throw UsageError("launcher 'slurm': the environment has no SLURM_NODELIST");
  const std::string hosts = list;
  // "node1" and "node1,node2" need no help; "node[1-4]" is expanded by Slurm itself.
  if (hosts.find('[') == std::string::npos) return hosts.substr(0, hosts.find(','));
  std::string first;
  if (FILE* pipe = popen("scontrol show hostnames \"$SLURM_NODELIST\"", "r")) {
    std::array<char, 256> line{};
    if (std::fgets(line.data(), line.size(), pipe)) first = line.data();
    pclose(pipe);
  }
  while (!first.empty() && (first.back() == '\n' || first.back() == ' ')) first.pop_back();
  if (first.empty()) {
    throw UsageError("launcher 'slurm': scontrol cannot expand SLURM_NODELIST=" + hosts);
  }
  return first;
}

}  // namespace

namespace {

/// Processes that torchrun starts know nothing of each other unless they are told to: each would
/// do all of the work, and write to the same files.
void warn_of_launcher() {
  for (const char* name : {"RANK", "LOCAL_RANK", "MASTER_ADDR"}) {
    if (!std::getenv(name)) return;
  }
  const char* size = std::getenv("WORLD_SIZE");
  if (!size || std::atoi(size) < 2) return;
  log::warn("WORLD_SIZE is ", size,
            " as under torchrun, but there is no --launcher pytorch: this process runs alone");
}

}  // namespace

int local_rank(const std::string& launcher) {
  if (launcher == "none") return 0;
  return launch_number(launcher, launch_variables(launcher).local_rank);
}

LaunchPlace launch_place(const std::string& launcher) {
  if (launcher == "none") return {};
  const LaunchVariables names = launch_variables(launcher);
  const LaunchPlace place{launch_number(launcher, names.rank), launch_number(launcher, names.size)};
  if (place.rank >= place.size) {
    throw UsageError(text("launcher '", launcher, "': ", names.rank, "=", place.rank,
                          " does not go with ", names.size, "=", place.size));
  }
  return place;
}

std::unique_ptr<Communicator> join_processes(const std::string& launcher, const EnvParams& env,
                                             c10::Device device) {
  if (launcher == "none") warn_of_launcher();
  const LaunchPlace mine = launch_place(launcher);
  if (mine.size == 1) return std::make_unique<SingleProcess>();
  Rendezvous place;
  place.rank = mine.rank;
  place.size = mine.size;
  const char* host = std::getenv("MASTER_ADDR");
  const char* port = std::getenv("MASTER_PORT");
  if (launcher == "slurm") {
    place.host = host ? host : first_slurm_host();
  } else {
    place.host = host ? host : "127.0.0.1";
  }
  place.port = port ? launch_number(launcher, "MASTER_PORT") : static_cast<int>(env.dist_cfg.port);
  if (launcher == "pytorch" && (!host || !port)) {
    throw UsageError(
        "launcher 'pytorch': the environment has no MASTER_ADDR and MASTER_PORT. "
        "Start the processes with torchrun, or leave out --launcher");
  }
  // Under torchrun the store at that port may be the agent's own.
  const char* agent = std::getenv("TORCHELASTIC_USE_AGENT_STORE");
  place.store_of_launcher = agent && std::string(agent) == "True";
  place.runs_store = place.rank == 0 && !place.store_of_launcher;
  place.timeout_s = env.dist_cfg.timeout.value_or(1800);
  place.heartbeat_timeout_s = env.dist_cfg.heartbeat_timeout;
  place.backend = device.is_cpu() ? "gloo" : env.dist_cfg.backend;
  place.device = device;
  return join_process_group(place);
}

}  // namespace seg
