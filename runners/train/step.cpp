#include "runners/train/step.hpp"

#include <ATen/record_function.h>

#include "runners/evaluate/input_errors.hpp"
#include "segcore/models/label_error.hpp"
#include "segcore/torch.hpp"

namespace seg {

ModelInput TrainStep::preprocessed(const Batch& batch) {
  RECORD_USER_SCOPE("preprocessor");
  auto input = model_.data_preprocessor()(batch, /*training=*/true, device_);
  if (input.images.defined()) input_shape_ = {input.images.size(-2), input.images.size(-1)};
  return input;
}

LossMap TrainStep::losses_of(const ModelInput& input) {
  LossMap losses;
  {
    const auto precision = optimizer_.precision();
    const auto memory = optimizer_.recomputations(input.images);
    losses = model_.loss(input.images, Targets(input));
  }
  losses.insert(losses.begin(), {"loss", total_loss(losses)});
  return losses;
}

LossMap TrainStep::forward(const ModelInput& input) {
  if (recorded_) {
    auto losses = recorded_->run(input, [this](const ModelInput& recorded) {
      LossMap out = losses_of(recorded);
      optimizer_.scale_loss(out.front().second).backward();
      return out;
    });
    has_gradients_ = losses.has_value();
    if (losses) return std::move(*losses);
  }
  return losses_of(input);
}

LossMap TrainStep::forward(const Batch& batch) {
  const ModelInput input = preprocessed(batch);
  RECORD_USER_SCOPE("forward");
  if (reducer_) reducer_->before_forward();
  try {
    return forward(input);
  } catch (const LabelError& e) {
    const SampleMeta& meta = input.metas.at(static_cast<size_t>(e.image()));
    throw DataError(
        text(meta.seg_map_path.empty() ? meta.img_path : meta.seg_map_path, ": ", e.what()));
  } catch (const c10::Error&) {
    check_bands(model_, input);
    throw;
  }
}

void TrainStep::backward(const LossMap& losses) {
  if (has_gradients_) return;
  RECORD_USER_SCOPE("backward");
  const at::Tensor loss = optimizer_.scale_loss(losses.front().second);
  if (reducer_ && optimizer_.will_update()) {
    reducer_->backward(loss);
  } else {
    loss.backward();
  }
}

void TrainStep::update() {
  RECORD_USER_SCOPE("optimizer");
  optimizer_.step();
}

}  // namespace seg
