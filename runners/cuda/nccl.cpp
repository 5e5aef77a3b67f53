// c10d's process group on NCCL.
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <exception>
#include <mutex>

#include "registry/error.hpp"
#include "runners/cuda/nccl.hpp"
#include "runners/dist/communication_errors.hpp"

namespace seg {
namespace {

std::terminate_handler before_nccl = nullptr;

/// NCCL's watchdog reports a lost peer, which leaves the GPU waiting for ever, and kernels that
/// failed by an exception that nobody can catch: the thread is its own. The process then ends with
/// the words and the code that the main thread would have given them.
[[noreturn]] void end_for_watchdog() {
  if (const std::exception_ptr error = std::current_exception()) {
    try {
      std::rethrow_exception(error);
    } catch (const c10::DistError& e) {
      const std::string why = e.what_without_backtrace();
      const CommunicationFault fault = communication_fault(why);
      const bool lost = fault == CommunicationFault::kPeer;
      const bool full = fault == CommunicationFault::kOutOfMemory;
      const std::string message = text(lost   ? "error: a process of the run was lost (NCCL): "
                                       : full ? "error: not enough GPU memory: "
                                              : "internal error: ",
                                       why, "\n");
      [[maybe_unused]] const auto written = ::write(STDERR_FILENO, message.data(), message.size());
      ::_exit(lost ? kPeerLost : full ? 1 : 70);
    } catch (...) {  // reported elsewhere
    }
  }
  if (before_nccl) before_nccl();
  std::abort();
}

c10::intrusive_ptr<c10d::Backend> make_nccl(const c10::intrusive_ptr<c10d::Store>& store, int rank,
                                            int size, int64_t timeout_s) {
  static std::once_flag once;
  std::call_once(once, [] { before_nccl = std::set_terminate(end_for_watchdog); });
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = std::chrono::seconds(timeout_s);
  return c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, size, options);
}

}  // namespace

NcclFactory compiled_nccl_factory() { return &make_nccl; }

}  // namespace seg
