/// The processes of a run over a process group of c10d. Internal to runners/dist.
#pragma once
#include <functional>
#include <memory>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "runners/dist/peer_watch.hpp"
#include "segcore/dist/communicator.hpp"

namespace seg {

/// Runs a call that communicates. Only errors of the communication mean a lost peer; others, such
/// as too little memory or a kernel that failed, keep their type.
/// \param watch  knows who was lost; null before all have met.
/// \throws RunEnded with 22 where a peer was lost.
void communicating(const char* what, PeerWatch* watch, int rank, const std::function<void()>& call);

/// Processes wait for each other, not their GPUs: it is files and the like that a barrier guards.
void wait_for_all(c10d::ProcessGroup& group);

class C10dCommunicator final : public Communicator {
 public:
  C10dCommunicator(c10::intrusive_ptr<c10d::Store> store,
                   c10::intrusive_ptr<c10d::ProcessGroup> group,
                   c10::intrusive_ptr<c10d::Backend> nccl, std::unique_ptr<PeerWatch> watch);
  ~C10dCommunicator() override;
  C10dCommunicator(const C10dCommunicator&) = delete;
  C10dCommunicator& operator=(const C10dCommunicator&) = delete;

  int rank() const override { return group_->getRank(); }
  int size() const override { return group_->getSize(); }
  void all_reduce_sum_(at::Tensor& tensor) override;
  void broadcast_(at::Tensor& tensor, int root) override;
  void barrier() override;
  void announce_end(const std::string& why) override { watch_->announce_end(why); }

  /// Runs a collective call under its name.
  void exchange(const char* what, const std::function<void()>& call);
  const c10::intrusive_ptr<c10d::ProcessGroup>& group() const { return group_; }

 private:
  c10::intrusive_ptr<c10d::Store> store_;
  c10::intrusive_ptr<c10d::ProcessGroup> group_;
  c10::intrusive_ptr<c10d::Backend> nccl_;  ///< null where all goes through Gloo
  std::unique_ptr<PeerWatch> watch_;
};

}  // namespace seg
