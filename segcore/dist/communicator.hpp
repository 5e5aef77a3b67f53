/// The view that models, metrics and samplers have of the other processes of a run.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace seg {

/// The processes of one run. Calls are collective: every rank makes them, in the same order.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// Element-wise sum over all ranks, in place.
  virtual void all_reduce_sum_(at::Tensor& tensor) = 0;
  /// Copies the root's values to every rank, in place.
  virtual void broadcast_(at::Tensor& tensor, int root) = 0;
  virtual void barrier() = 0;
  /// Lets the others know why this process ends; not collective.
  virtual void announce_end(const std::string& /*why*/) {}
};

/// A run of one process.
class SingleProcess final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  void all_reduce_sum_(at::Tensor&) override {}
  void broadcast_(at::Tensor&, int) override {}
  void barrier() override {}
};

}  // namespace seg
