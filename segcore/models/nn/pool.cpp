#include "segcore/models/nn/pool.hpp"

#include "segcore/torch.hpp"

namespace seg {

std::shared_ptr<Layer> global_average() {
  return std::make_shared<Lambda>([](const torch::Tensor& x) {
    return at::adaptive_avg_pool2d(x, {1, 1});
  });
}

std::shared_ptr<Layer> average_pool(int64_t kernel_size, int64_t stride, int64_t padding) {
  return std::make_shared<Lambda>(
      [=](const torch::Tensor& x) { return at::avg_pool2d(x, kernel_size, stride, padding); });
}

}  // namespace seg
