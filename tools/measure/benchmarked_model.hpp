/// A model as a run trains it, on synthetic images.
#pragma once
#include <c10/core/Device.h>

#include <array>
#include <memory>

#include "runners/optim/optim_wrapper.hpp"
#include "runners/start/run_config.hpp"
#include "runners/train/recorded_passes.hpp"
#include "segcore/models/segmentor.hpp"
#include "tools/measure/measurement.hpp"

namespace seg {

class GradientReducer;

/// Model and optimizer of a configuration, and the training step.
class BenchmarkedModel {
 public:
  BenchmarkedModel(const RunConfig& config, c10::Device device);
  /// From here on `step` records forward and backward passes as a run does (`cuda_graph`).
  void record_steps();
  /// One step, with the work of the device queued and not waited for. Its phases are user scopes of
  /// LibTorch's records: preprocessor, forward, backward, optimizer.
  /// \param reducer  averages gradients over the processes; null: it does not.
  void step(const Batch& batch, GradientReducer* reducer = nullptr);
  /// Height and width that the model saw, which the preprocessor may have padded.
  std::array<int64_t, 2> input_shape() const { return input_shape_; }
  double loss() const;  ///< waits for the device
  c10::Device device() const { return device_; }
  Segmentor& model() { return *model_; }

 private:
  c10::Device device_;
  std::shared_ptr<Segmentor> model_;
  std::unique_ptr<OptimWrapper> optimizer_;
  std::unique_ptr<RecordedPasses> recorded_;
  at::Tensor loss_;
  std::array<int64_t, 2> input_shape_{};
};

/// The shape of each training image: as asked for, else what the configuration crops or pads to.
std::array<int64_t, 2> image_shape(const BenchmarkArguments& arguments, const Segmentor& model,
                                   const Config& tree);

/// Random images with the shape, bands and classes that the model takes.
Batch synthetic_batch(const BenchmarkArguments& arguments, const RunConfig& config,
                      BenchmarkedModel& model);

int64_t batch_size_of(const BenchmarkArguments& arguments, const RunConfig& config);

}  // namespace seg
