#include "segcore/models/nn/draws_random_numbers.hpp"

#include "segcore/models/nn/base_module.hpp"
#include "segcore/torch.hpp"

namespace seg {

at::Tensor DrawsRandomNumbers::torch_rand(at::IntArrayRef shape, const at::TensorOptions& options) {
  return at::rand(shape, options);
}

void set_random_source(torch::nn::Module& model, const RandomSource& source) {
  for_each_module(model, [&source](torch::nn::Module& m) {
    if (auto* module = dynamic_cast<DrawsRandomNumbers*>(&m)) module->set_random_source(source);
  });
}

}  // namespace seg
