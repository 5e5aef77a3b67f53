/// Batch norm, alone and over all processes of a run.
#pragma once
#include "segcore/models/nn/communicates.hpp"
#include "segcore/models/nn/norm.hpp"

namespace seg {

struct BatchNormParams {
  double eps = 1e-5;
  std::optional<double> momentum = 0.1;
  bool affine = true;
  bool track_running_stats = true;
  bool requires_grad = true;
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

 protected:
  /// Counts the batch, in training; gives the share of its statistics in the running ones.
  double next_momentum();
  Params params_;
  torch::Tensor running_mean_, running_var_, batches_;
};

/// Batch norm whose statistics are those of all processes; in one process plain batch norm.
class SyncBatchNorm final : public BatchNorm, public Communicates {
 public:
  using BatchNorm::BatchNorm;
  std::vector<std::string> python_names() const override { return {"SyncBatchNorm", "_BatchNorm"}; }
  torch::Tensor forward(const torch::Tensor& x) override;
};

}  // namespace seg
