/// Batch norm, of one process and of all processes of a run.
#pragma once
#include "segcore/models/nn/norm.hpp"
#include "segcore/models/nn/uses_communicator.hpp"

namespace seg {

struct BatchNormParams {
  double eps = 1e-5;
  std::optional<double> momentum = 0.1;
  bool affine = true;
  bool track_running_stats = true;
  bool requires_grad = true;
};

/// While one lives, running statistics of norms that this thread runs follow each batch as two
/// forward passes of it would let them.
class FollowsBatchesTwice {
 public:
  FollowsBatchesTwice();
  ~FollowsBatchesTwice();
  FollowsBatchesTwice(const FollowsBatchesTwice&) = delete;
  FollowsBatchesTwice& operator=(const FollowsBatchesTwice&) = delete;

 private:
  bool outer_;
};

/// torch.nn.BatchNorm of any number of dimensions.
class BatchNorm : public Norm {
 public:
  using Params = BatchNormParams;
  static Schema<Params> schema();
  BatchNorm(const Params& p, int64_t channels);
  std::string abbreviation() const override { return "bn"; }
  bool is_batch_norm() const override { return true; }
  std::vector<std::string> python_names() const override { return {"BatchNorm2d", "_BatchNorm"}; }
  torch::Tensor forward(const torch::Tensor& x) override;
  torch::Tensor forward_relu(const torch::Tensor& x, const torch::Tensor& residual = {}) override;

 protected:
  /// Whether `batch_norm_relu` has a kernel for it. LibTorch's kernels for GPUs serve more types
  /// and layouts; ours are for CPUs.
  static bool has_relu_kernel(const torch::Tensor& x);
  /// Whether statistics are those of the batch. \throws DataError where it has too few values.
  bool uses_batch(const torch::Tensor& x) const;
  /// Counts the batch in training. Returns the share of its statistics in the running ones.
  double next_momentum();
  Params params_;
  torch::Tensor running_mean_, running_var_, batches_;
};

/// Batch norm with the statistics of all processes; plain batch norm in one process.
class SyncBatchNorm final : public BatchNorm, public UsesCommunicator {
 public:
  using BatchNorm::BatchNorm;
  std::vector<std::string> python_names() const override { return {"SyncBatchNorm", "_BatchNorm"}; }
  torch::Tensor forward(const torch::Tensor& x) override;
  torch::Tensor forward_relu(const torch::Tensor& x, const torch::Tensor& residual = {}) override;

 private:
  /// The other processes, where their statistics count; else null.
  Communicator* others_in_training() const;
  /// Lets the running statistics follow those of a batch in training. \param var  unbiased
  void follow(const torch::Tensor& mean, const torch::Tensor& var);
};

}  // namespace seg
