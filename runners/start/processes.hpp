/// Joins the processes that a launcher started, and lets them train like one.
#pragma once
#include <c10/core/Device.h>

#include <functional>
#include <memory>
#include <string>

#include "segcore/dist/communicator.hpp"

namespace torch::nn {
class Module;
}
namespace at {
class Tensor;
}

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

/// The processes of this run for `launcher`: "none", "pytorch", "slurm" or "mpi".
/// \throws UsageError where the launcher's environment is missing or cannot be served.
std::unique_ptr<Communicator> join_processes(const std::string& launcher, const EnvParams& env,
                                             c10::Device device);

/// Averages gradients over the processes while the backward pass still goes on (c10d's Reducer).
class GradientReducer {
 public:
  virtual ~GradientReducer() = default;
  virtual void before_forward() = 0;
  /// Runs the backward pass of `loss`, after which gradients are means over the processes.
  /// \throws RunEnded with 22 where a process is lost meanwhile; what `backward` throws.
  virtual void average(const at::Tensor& loss, const std::function<void()>& backward) = 0;
};

/// For several processes; nothing for one. The weights of all become those of the first.
/// \param find_unused  some parameters get no gradient in some steps.
std::unique_ptr<GradientReducer> make_reducer(Communicator& communicator, torch::nn::Module& model,
                                              bool find_unused);

}  // namespace seg
