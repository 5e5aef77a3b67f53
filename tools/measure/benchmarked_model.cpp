#include "tools/measure/benchmarked_model.hpp"

#include <algorithm>

#include "runners/evaluate/image_size.hpp"
#include "runners/start/device.hpp"
#include "runners/start/environment.hpp"
#include "runners/train/step.hpp"
#include "segcore/data/label_values.hpp"
#include "segcore/torch.hpp"

namespace seg {

BenchmarkedModel::BenchmarkedModel(const RunConfig& config, c10::Device device) : device_(device) {
  torch::manual_seed(0);
  apply_environment(config.env_cfg, config.randomness.deterministic);
  model_ = config.model.build();
  model_->init_weights();
  model_->to(device);
  model_->set_memory_format(choose_memory_format(config.env_cfg.memory_format));
  model_->train();
  if (!config.optim_wrapper) throw DataError("the configuration has no 'optim_wrapper'");
  optimizer_ = config.optim_wrapper->build(*model_);
}

void BenchmarkedModel::record_steps() {
  recorded_ = make_recorded_passes(*model_, *optimizer_, device_, /*processes=*/1);
  optimizer_->keep_gradients(recorded_ != nullptr);
}

void BenchmarkedModel::step(const Batch& batch, GradientReducer* reducer) {
  TrainStep step(*model_, *optimizer_, reducer, device_, recorded_.get());
  const LossMap losses = step.forward(batch);
  step.backward(losses);
  step.update();
  loss_ = losses.front().second.detach();
  input_shape_ = step.input_shape();
}

double BenchmarkedModel::loss() const { return loss_.item<double>(); }

std::array<int64_t, 2> image_shape(const BenchmarkArguments& arguments, const Segmentor& model,
                                   const Config& tree) {
  if (!arguments.shape.empty()) return {arguments.shape[0], arguments.shape[1]};
  const Size2 size = training_size(model, tree).value_or(Size2(512));
  return {size.h, size.w};
}

Batch synthetic_batch(const BenchmarkArguments& arguments, const RunConfig& config,
                      BenchmarkedModel& model) {
  const auto shape = image_shape(arguments, model.model(), config.tree);
  const int64_t bands = model.model().bands().value_or(3);
  const int64_t classes = std::min<int64_t>(model.model().num_classes(), 255);
  Batch batch;
  for (int64_t i = 0; i < batch_size_of(arguments, config); ++i) {
    PackedSample sample;
    sample.meta.img_path = "synthetic";
    sample.meta.ori_shape = sample.meta.img_shape = sample.meta.pad_shape = shape;
    sample.image = torch::randint(0, 256, {bands, shape[0], shape[1]}, torch::kByte);
    if (classes > 0) {
      sample.labels = torch::randint(0, classes, {shape[0], shape[1]}, torch::kByte);
      sample.label_values = label_values(sample.labels);  // as the loader lists them
    } else {
      sample.depth = torch::rand({shape[0], shape[1]});
    }
    batch.samples.push_back(std::move(sample));
  }
  return batch;
}

int64_t batch_size_of(const BenchmarkArguments& arguments, const RunConfig& config) {
  if (arguments.batch_size > 0) return arguments.batch_size;
  return config.train_dataloader ? config.train_dataloader->batch_size : 2;
}

}  // namespace seg
