#include "runners/start/processes.hpp"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <optional>

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
  const char* local_size;  ///< processes of this machine
  const char* program;
};

/// Of `launcher: mpi`. The first row names what is missing where there is none of them.
constexpr LaunchVariables kMpiVariables[] = {
    // Open MPI, up to 5.
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
     "OMPI_COMM_WORLD_LOCAL_SIZE", "mpirun"},
    // MVAPICH's own starter.
    {"MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK",
     "MV2_COMM_WORLD_LOCAL_SIZE", "mpirun"},
    // Hydra: MPICH, Intel MPI, MVAPICH.
    {"PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", "mpirun"},
};

LaunchVariables launch_variables(const std::string& launcher) {
  if (launcher == "slurm") {
    return {"SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", nullptr, "srun"};
  }
  if (launcher == "mpi") {
    for (const LaunchVariables& names : kMpiVariables) {
      if (std::getenv(names.rank)) return names;
    }
    return kMpiVariables[0];
  }
  return {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "torchrun"};
}

std::optional<int> number_of_variable(const char* variable) {
  const char* value = std::getenv(variable);
  char* end = nullptr;
  const long number = value ? std::strtol(value, &end, 10) : 0;
  if (!value || end == value || *end != '\0' || number < 0) return std::nullopt;
  return static_cast<int>(number);
}

/// What to do where MPI's own variables are missing.
std::string mpi_advice() {
  if (!std::getenv("PMIX_RANK")) return "";
  // PMIx tells the number of processes to its own clients alone.
  return " (there is PMIX_RANK, but PMIx does not write the number of processes; under srun write "
         "--launcher slurm)";
}

int launch_number(const std::string& launcher, const char* variable) {
  if (const auto number = number_of_variable(variable)) return *number;
  throw UsageError(text("launcher '", launcher, "': the environment has no number ", variable,
                        launcher == "mpi" ? mpi_advice() : "", ". Start the processes with ",
                        launch_variables(launcher).program, ", or leave out --launcher"));
}

/// The first of the machines that Slurm gave to this step.
std::string first_slurm_host() {
  // Of a step, which may use fewer machines than its job.
  if (number_of_variable("SLURM_STEP_NUM_NODES") == 1) return "127.0.0.1";
  const char* step = std::getenv("SLURM_STEP_NODELIST");
  const char* list = step ? step : std::getenv("SLURM_NODELIST");
  if (!list) throw UsageError("launcher 'slurm': the environment has no SLURM_NODELIST");
  const std::string hosts = list;
  // "node1" and "node1,node2" need no help; "node[1-4]" is expanded by Slurm itself.
  if (hosts.find('[') == std::string::npos) return hosts.substr(0, hosts.find(','));
  std::string first;
  const char* command = step ? "scontrol show hostnames \"$SLURM_STEP_NODELIST\""
                             : "scontrol show hostnames \"$SLURM_NODELIST\"";
  if (FILE* pipe = popen(command, "r")) {
    std::array<char, 256> line{};
    if (std::fgets(line.data(), line.size(), pipe)) first = line.data();
    pclose(pipe);
  }
  while (!first.empty() && (first.back() == '\n' || first.back() == ' ')) first.pop_back();
  if (first.empty()) {
    throw UsageError(text("launcher 'slurm': scontrol cannot expand ",
                          step ? "SLURM_STEP_NODELIST=" : "SLURM_NODELIST=", hosts));
  }
  return first;
}

/// A port that other jobs and steps on this machine do not take, where neither the environment nor
/// the config names one. Below those that the system gives to clients (32768 to 60999).
int slurm_port(const EnvParams& env) {
  const auto job = number_of_variable("SLURM_JOB_ID");
  if (!job || env.dist_cfg.port != DistParams().port) return static_cast<int>(env.dist_cfg.port);
  constexpr int64_t kFirstPort = 10000, kPorts = 20000, kSteps = 16;
  const int64_t step = number_of_variable("SLURM_STEP_ID").value_or(0);
  return static_cast<int>(kFirstPort + (*job * kSteps + step % kSteps) % kPorts);
}

/// The machine of the first process where the environment does not name it.
std::string default_host(const std::string& launcher, int size) {
  if (launcher == "slurm") return first_slurm_host();
  const LaunchVariables names = launch_variables(launcher);
  const int local = number_of_variable(names.local_size).value_or(size);
  if (local >= size) return "127.0.0.1";
  throw UsageError(text("launcher '", launcher, "': of ", size, " processes ", local,
                        " are on this machine, and the environment has no MASTER_ADDR. Set it to "
                        "the address of the machine of rank 0: mpirun -x MASTER_ADDR=node1 ... "
                        "(Open MPI), mpirun -genv MASTER_ADDR node1 ... (MPICH, Intel MPI)"));
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

bool is_first_process(const std::string& launcher) {
  return launcher == "none" || number_of_variable(launch_variables(launcher).rank).value_or(0) == 0;
}

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
  if (launcher == "pytorch" && (!host || !port)) {
    throw UsageError(
        "launcher 'pytorch': the environment has no MASTER_ADDR and MASTER_PORT. "
        "Start the processes with torchrun, or leave out --launcher");
  }
  place.host = host ? host : default_host(launcher, mine.size);
  if (port) {
    place.port = launch_number(launcher, "MASTER_PORT");
  } else {
    place.port = launcher == "slurm" ? slurm_port(env) : static_cast<int>(env.dist_cfg.port);
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
