/// One training step.
#pragma once
#include <c10/core/Device.h>

#include <memory>

#include "runners/dist/reducer.hpp"
#include "runners/optim/optim_wrapper.hpp"
#include "runners/train/recorded_passes.hpp"
#include "segcore/models/segmentor.hpp"

namespace seg {

/// Forward pass, backward pass and update, to be called in this order.
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
  void update() { optimizer_.step(); }

 private:
  LossMap losses_of(const ModelInput& input);
  /// As `losses_of`; an error tells of the input.
  LossMap forward(const ModelInput& input);

  Segmentor& model_;
  OptimWrapper& optimizer_;
  GradientReducer* reducer_;
  c10::Device device_;
  RecordedPasses* recorded_;
  bool has_gradients_ = false;
};

}  // namespace seg
