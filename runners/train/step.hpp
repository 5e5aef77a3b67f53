/// One training step.
#pragma once
#include <c10/core/Device.h>

#include <array>
#include <cstdint>

#include "runners/dist/reducer.hpp"
#include "runners/optim/optim_wrapper.hpp"
#include "runners/train/recorded_passes.hpp"
#include "segcore/models/segmentor.hpp"

namespace seg {

/// Forward pass, backward pass and update, to be called in this order. They, and the preprocessor
/// before them, are user scopes of LibTorch's records: preprocessor, forward, backward, optimizer.
class TrainStep {
 public:
  /// \param reducer  null for one process. Borrowed, as the others.
  /// \param recorded  null: none.
  TrainStep(Segmentor& model, OptimWrapper& optimizer, GradientReducer* reducer, c10::Device device,
            RecordedPasses* recorded)
      : model_(model),
        optimizer_(optimizer),
        reducer_(reducer),
        device_(device),
        recorded_(recorded) {}

  /// \return the losses of a batch, with their sum as "loss" in front; not detached.
  /// \throws DataError for images with another number of bands than the model takes.
  /// Where the step is recorded, this is the backward pass, too, and losses are detached.
  LossMap forward(const Batch& batch);
  void backward(const LossMap& losses);
  void update();
  /// Height and width that the model saw, which the preprocessor may have padded; zeros for an
  /// ensemble, whose models have inputs of their own.
  std::array<int64_t, 2> input_shape() const { return input_shape_; }

 private:
  ModelInput preprocessed(const Batch& batch);
  LossMap losses_of(const ModelInput& input);
  /// As `losses_of`; an error tells of the input.
  LossMap forward(const ModelInput& input);

  Segmentor& model_;
  OptimWrapper& optimizer_;
  GradientReducer* reducer_;
  c10::Device device_;
  RecordedPasses* recorded_;
  bool has_gradients_ = false;
  std::array<int64_t, 2> input_shape_{};
};

}  // namespace seg
