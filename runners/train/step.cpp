#include "runners/train/step.hpp"

#include "runners/evaluate/input_errors.hpp"
#include "segcore/models/label_error.hpp"
#include "segcore/torch.hpp"

namespace seg {

LossMap TrainStep::forward(const Batch& batch) {
  const ModelInput input = model_.data_preprocessor()(batch, /*training=*/true, device_);
  if (reducer_) reducer_->before_forward();
  LossMap losses;
  try {
    const auto precision = optimizer_.precision();
    losses = model_.loss(input.images, Targets(input));
  } catch (const LabelError& e) {
    const SampleMeta& meta = input.metas.at(static_cast<size_t>(e.image()));
    throw DataError(
        text(meta.seg_map_path.empty() ? meta.img_path : meta.seg_map_path, ": ", e.what()));
  } catch (const c10::Error&) {
    check_bands(model_, input);
    throw;
  }
  losses.insert(losses.begin(), {"loss", total_loss(losses)});
  return losses;
}

void TrainStep::backward(const LossMap& losses) {
  const at::Tensor loss = optimizer_.scale_loss(losses.front().second);
  if (reducer_ && optimizer_.will_update()) {
    reducer_->backward(loss);
  } else {
    loss.backward();
  }
}

}  // namespace seg
