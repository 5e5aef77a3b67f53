#include "runners/train/try_one_sample.hpp"

#include "runners/checkpoint/generators.hpp"
#include "segcore/data/loader.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/torch.hpp"

namespace seg {

void try_one_sample(Segmentor& model, const DataLoader& loader, c10::Device device) {
  const torch::NoGradGuard no_grad;
  const at::Tensor generators = generator_state(device);
  const auto buffers = model.buffers();
  std::vector<at::Tensor> before;
  for (const at::Tensor& buffer : buffers) before.push_back(buffer.clone());

  Batch batch;
  batch.samples = loader.dataset().get(0, /*seed=*/0, /*epoch=*/0);
  batch.samples.resize(1);
  model.train();
  const ModelInput input = model.data_preprocessor()(batch, /*training=*/true, device);
  try {
    model.loss(input.images, Targets(input));
  } catch (const DataError& e) {
    throw DataError(text("the last batch of an epoch has one sample (", loader.dataset().size(),
                         " samples, batch_size ", loader.batch_size(), "): ", e.what(),
                         "; or leave it out with train_dataloader.drop_last: true"));
  }
  for (size_t i = 0; i < buffers.size(); ++i) buffers[i].copy_(before[i]);
  set_generator_state(device, generators);
}

}  // namespace seg
