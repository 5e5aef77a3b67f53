// c10d's process group on NCCL.
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <exception>
#include <mutex>

#include "registry/error.hpp"
#include "runners/cuda/nccl.hpp"

namespace seg {
namespace {

constexpr int kNcclPeerLost = 22;

std::terminate_handler before_nccl = nullptr;

/// NCCL's watchdog reports a lost peer, which leaves the GPU waiting for ever, by an exception
/// that nobody can catch: the thread is its own. The process then ends as it does for a peer lost
/// on CPUs.
[[noreturn]] void end_for_lost_peer() {
  if (const std::exception_ptr error = std::current_exception()) {
    try {
      std::rethrow_exception(error);
    } catch (const c10::DistError& e) {
      const std::string message =
          text("a process of the run was lost (NCCL): ", e.what_without_backtrace(), "\n");
      [[maybe_unused]] const auto written = ::write(STDERR_FILENO, message.data(), message.size());
      ::_exit(kNcclPeerLost);
    } catch (...) {  // reported elsewhere
    }
  }
  if (before_nccl) before_nccl();
  std::abort();
}

c10::intrusive_ptr<c10d::Backend> make_nccl(const c10::intrusive_ptr<c10d::Store>& store, int rank,
                                            int size, int64_t timeout_s) {
  static std::once_flag once;
  std::call_once(once, [] { before_nccl = std::set_terminate(end_for_lost_peer); });
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = std::chrono::seconds(timeout_s);
  return c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, size, options);
}

}  // namespace

NcclFactory compiled_nccl_factory() { return &make_nccl; }

}  // namespace seg
