/// One training step.
#pragma once
#include <c10/core/Device.h>

#include <memory>

#include "runners/dist/reducer.hpp"
#include "runners/optim/optim_wrapper.hpp"
#include "segcore/models/segmentor.hpp"

namespace seg {

/// Forward pass, backward pass and update, to be called in this order.
class TrainStep {
 public:
  /// \param reducer  null for one process. Borrowed, as the others.
  TrainStep(Segmentor& model, OptimWrapper& optimizer, GradientReducer* reducer, c10::Device device)
      : model_(model), optimizer_(optimizer), reducer_(reducer), device_(device) {}

  /// \return the losses of a batch, with their sum as "loss" in front; not detached.
  /// \throws DataError for images with another number of bands than the model takes.
  LossMap forward(const Batch& batch);
  void backward(const LossMap& losses);
  void update() { optimizer_.step(); }

 private:
  Segmentor& model_;
  OptimWrapper& optimizer_;
  GradientReducer* reducer_;
  c10::Device device_;
};

}  // namespace seg
