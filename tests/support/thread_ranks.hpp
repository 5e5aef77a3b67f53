/// Processes of a run played by threads, for what needs a Communicator and no files.
#pragma once
#include <barrier>
#include <functional>
#include <thread>
#include <vector>

#include "segcore/dist/communicator.hpp"
#include "segcore/torch.hpp"

namespace seg::test {

/// What the threads share.
struct RankMeeting {
  explicit RankMeeting(int count) : barrier(count), given(static_cast<size_t>(count)) {}
  std::barrier<> barrier;
  std::vector<at::Tensor> given;
};

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(RankMeeting& meeting, int rank) : meeting_(meeting), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(meeting_.given.size()); }
  void all_reduce_sum_(at::Tensor& tensor) override {
    meeting_.given[static_cast<size_t>(rank_)] = tensor.detach().clone();
    meeting_.barrier.arrive_and_wait();
    tensor.copy_(at::stack(meeting_.given).sum(0));
    meeting_.barrier.arrive_and_wait();
    ++reductions;
  }
  void broadcast_(at::Tensor& tensor, int root) override {
    meeting_.given[static_cast<size_t>(rank_)] = tensor.detach().clone();
    meeting_.barrier.arrive_and_wait();
    tensor.copy_(meeting_.given[static_cast<size_t>(root)]);
    meeting_.barrier.arrive_and_wait();
  }
  void barrier() override { meeting_.barrier.arrive_and_wait(); }
  int reductions = 0;  ///< calls of all_reduce_sum_

 private:
  RankMeeting& meeting_;
  int rank_;
};

/// Runs `work` once in each of `count` threads and waits for all. It must not throw: the others
/// would wait for ever.
inline void run_thread_ranks(int count, const std::function<void(ThreadCommunicator&)>& work) {
  RankMeeting meeting(count);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < count; ++rank) {
    threads.emplace_back([&, rank] {
      ThreadCommunicator communicator(meeting, rank);
      work(communicator);
    });
  }
  for (auto& thread : threads) thread.join();
}

}  // namespace seg::test
