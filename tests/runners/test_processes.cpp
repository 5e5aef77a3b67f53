/// Where processes find their place in the environment of Slurm and of MPI's starters.
#include "runners/start/processes.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>

#include "registry/error.hpp"
#include "runners/start/device.hpp"
#include "runners/start/run_config.hpp"

namespace seg::test {
namespace {

/// Variables of launchers, all unset but those given.
class Processes : public ::testing::Test {
 protected:
  ~Processes() override { clear(); }
  static void clear() {
    for (const char* name : {"RANK",
                             "WORLD_SIZE",
                             "LOCAL_RANK",
                             "LOCAL_WORLD_SIZE",
                             "MASTER_ADDR",
                             "MASTER_PORT",
                             "OMPI_COMM_WORLD_RANK",
                             "OMPI_COMM_WORLD_SIZE",
                             "OMPI_COMM_WORLD_LOCAL_RANK",
                             "OMPI_COMM_WORLD_LOCAL_SIZE",
                             "PMI_RANK",
                             "PMI_SIZE",
                             "MPI_LOCALRANKID",
                             "MPI_LOCALNRANKS",
                             "PMIX_RANK",
                             "MV2_COMM_WORLD_RANK",
                             "MV2_COMM_WORLD_SIZE",
                             "MV2_COMM_WORLD_LOCAL_RANK",
                             "MV2_COMM_WORLD_LOCAL_SIZE",
                             "SLURM_PROCID",
                             "SLURM_NTASKS",
                             "SLURM_LOCALID",
                             "SLURM_NODELIST",
                             "SLURM_STEP_NODELIST",
                             "SLURM_STEP_NUM_NODES",
                             "SLURM_JOB_ID"}) {
      unsetenv(name);
    }
  }
  static void set(const std::map<std::string, std::string>& variables) {
    clear();
    for (const auto& [name, value] : variables) setenv(name.c_str(), value.c_str(), 1);
  }
  /// What joining them is refused with.
  static std::string refusal(const std::string& launcher) {
    EnvParams env;
    env.dist_cfg.timeout = 1;
    try {
      join_processes(launcher, env, c10::kCPU);
    } catch (const UsageError& e) {
      return e.what();
    } catch (const RunEnded& e) {
      return "tried to join";
    }
    return "joined";
  }
};

TEST_F(Processes, FindTheirPlaceUnderEachStarterOfMpi) {
  const std::vector<std::map<std::string, std::string>> starters{
      {{"OMPI_COMM_WORLD_RANK", "5"},
       {"OMPI_COMM_WORLD_SIZE", "8"},
       {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
       // Open MPI sets PMIx's, too, and under Slurm those of PMI may be left of the job's step.
       {"PMIX_RANK", "5"},
       {"PMI_RANK", "0"}},
      {{"PMI_RANK", "5"}, {"PMI_SIZE", "8"}, {"MPI_LOCALRANKID", "1"}},
      {{"MV2_COMM_WORLD_RANK", "5"},
       {"MV2_COMM_WORLD_SIZE", "8"},
       {"MV2_COMM_WORLD_LOCAL_RANK", "1"}}};
  for (const auto& starter : starters) {
    set(starter);
    const LaunchPlace place = launch_place("mpi");
    EXPECT_EQ(place.rank, 5);
    EXPECT_EQ(place.size, 8);
    EXPECT_EQ(local_rank("mpi"), 1);
    EXPECT_FALSE(is_first_process("mpi"));
  }
  clear();
  EXPECT_TRUE(is_first_process("mpi"));
  EXPECT_EQ(refusal("mpi"),
            "launcher 'mpi': the environment has no number OMPI_COMM_WORLD_RANK. Start the "
            "processes with mpirun, or leave out --launcher");
  set({{"PMIX_RANK", "0"}});
  EXPECT_EQ(refusal("mpi"),
            "launcher 'mpi': the environment has no number OMPI_COMM_WORLD_RANK (there is "
            "PMIX_RANK, but PMIx does not write the number of processes; under srun write "
            "--launcher slurm). Start the processes with mpirun, or leave out --launcher");
}

TEST_F(Processes, SeveralMachinesNeedTheAddressOfTheFirst) {
  const std::string message =
      "launcher 'mpi': of 4 processes 2 are on this machine, and the environment has no "
      "MASTER_ADDR. Set it to the address of the machine of rank 0: mpirun -x MASTER_ADDR=node1 "
      "... "
      "(Open MPI), mpirun -genv MASTER_ADDR node1 ... (MPICH, Intel MPI)";
  std::map<std::string, std::string> open{{"OMPI_COMM_WORLD_RANK", "3"},
                                          {"OMPI_COMM_WORLD_SIZE", "4"},
                                          {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                                          {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}};
  set(open);
  EXPECT_EQ(refusal("mpi"), message);
  set({{"PMI_RANK", "3"}, {"PMI_SIZE", "4"}, {"MPI_LOCALRANKID", "1"}, {"MPI_LOCALNRANKS", "2"}});
  EXPECT_EQ(refusal("mpi"), message);
  // One machine needs none.
  open["OMPI_COMM_WORLD_LOCAL_SIZE"] = "4";
  open["MASTER_PORT"] = "1";
  set(open);
  EXPECT_EQ(refusal("mpi"), "tried to join");
}

TEST_F(Processes, TasksThatSeeFewerGpusThanTheyAreWrapAround) {
  EXPECT_EQ(gpu_of_process("slurm", 3, 1), 0);
  EXPECT_EQ(gpu_of_process("slurm", 3, 4), 3);
  EXPECT_EQ(gpu_of_process("mpi", 5, 4), 1);
  EXPECT_EQ(gpu_of_process("pytorch", 5, 4), 5);  // a mistake, which is then reported
}

}  // namespace
}  // namespace seg::test
