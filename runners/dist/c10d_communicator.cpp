#include "runners/dist/c10d_communicator.hpp"

#include <gloo/common/error.h>
#include <gloo/common/logging.h>

#include <exception>

#include "registry/error.hpp"
#include "registry/log.hpp"
#include "runners/dist/communication_errors.hpp"

namespace seg {
namespace {

[[noreturn]] void throw_peer_lost(const char* what, const std::string& why, PeerWatch* watch,
                                  int rank) {
  if (!watch) {
    throw RunEnded(kPeerLost, text("a process of the run was lost (", what, "): ", why));
  }
  const LostPeer lost = watch->find_lost();
  const std::string message = lost_message(lost, rank);
  flight_recorder().write(text(message, " (", what, ": ", why, ")"), lost);
  throw RunEnded(kPeerLost, message);
}

/// The error that is being handled, in the words and with the exit code of whose fault it is.
[[noreturn]] void throw_by_fault(const char* what, const c10::DistError& e, PeerWatch* watch,
                                 int rank) {
  const std::string why = e.what_without_backtrace();
  switch (communication_fault(why)) {
    case CommunicationFault::kPeer:
      throw_peer_lost(what, why, watch, rank);
    case CommunicationFault::kOutOfMemory:
      C10_THROW_ERROR(OutOfMemoryError, why);
    case CommunicationFault::kSharedGpu:
      throw UsageError(
          text("two processes use the same GPU, which NCCL cannot serve. Write "
               "env_cfg.device: cuda, with which each process of a machine takes its "
               "own, or start no more processes than there are GPUs (",
               why, ")"));
    case CommunicationFault::kOwn:
      throw;
  }
  throw;
}

}  // namespace

void communicating(const char* what, PeerWatch* watch, int rank,
                   const std::function<void()>& call) {
  try {
    call();
  } catch (const c10::DistError& e) {
    throw_by_fault(what, e, watch, rank);
  } catch (const gloo::Exception& e) {
    throw_peer_lost(what, e.what(), watch, rank);
  } catch (const gloo::EnforceNotMet& e) {
    throw_peer_lost(what, e.what(), watch, rank);
  }
}

C10dCommunicator::C10dCommunicator(c10::intrusive_ptr<c10d::Store> store,
                                   c10::intrusive_ptr<c10d::ProcessGroup> group,
                                   c10::intrusive_ptr<c10d::Backend> nccl,
                                   std::unique_ptr<PeerWatch> watch)
    : store_(std::move(store)),
      group_(std::move(group)),
      nccl_(std::move(nccl)),
      watch_(std::move(watch)) {}

C10dCommunicator::~C10dCommunicator() {
  if (!nccl_) return;
  try {
    // What is queued will never end where a peer is lost, which is one way to get here.
    if (std::uncaught_exceptions() > 0) {
      nccl_->abort();
    } else {
      nccl_->shutdown();
    }
  } catch (const std::exception& e) {
    log::warn("NCCL did not end in order: ", e.what());
  }
}

void C10dCommunicator::exchange(const char* what, const std::function<void()>& call) {
  const CollectiveScope scope(what);
  communicating(what, watch_.get(), rank(), call);
}

void C10dCommunicator::all_reduce_sum_(at::Tensor& tensor) {
  exchange("all-reduce", [&] {
    std::vector<at::Tensor> list{tensor.contiguous()};
    group_->allreduce(list, {})->wait();
    if (!list[0].is_same(tensor)) tensor.copy_(list[0]);
  });
}

void C10dCommunicator::broadcast_(at::Tensor& tensor, int root) {
  exchange("broadcast", [&] {
    c10d::BroadcastOptions options;
    options.rootRank = root;
    std::vector<at::Tensor> list{tensor.contiguous()};
    group_->broadcast(list, options)->wait();
    if (!list[0].is_same(tensor)) tensor.copy_(list[0]);
  });
}

void wait_for_all(c10d::ProcessGroup& group) {
  // Not the group's own barrier, which keeps its tensor in a static variable: two groups of one
  // process would free it twice.
  group.getBackend(c10::kCPU)->barrier()->wait();
}

void C10dCommunicator::barrier() {
  exchange("barrier", [&] { wait_for_all(*group_); });
}

}  // namespace seg
