#include "segcore/models/nn/draws_random_numbers.hpp"

#include <gtest/gtest.h>

#include "segcore/models/nn/base_module.hpp"
#include "segcore/torch.hpp"

namespace seg::draws_random_numbers_test {

/// Adds random numbers.
class Noise final : public Layer, public DrawsRandomNumbers {
 public:
  torch::Tensor forward(const torch::Tensor& x) override {
    return x + uniform(x.sizes(), x.options());
  }
};

TEST(DrawsRandomNumbers, TakesLibTorchsByDefault) {
  torch::manual_seed(3);
  const auto found = Noise().forward(torch::zeros({2, 3}));
  torch::manual_seed(3);
  EXPECT_TRUE(torch::equal(found, torch::rand({2, 3})));
}

TEST(DrawsRandomNumbers, TakesTheSourceOfTheModel) {
  Sequential model{std::make_shared<Identity>(),
                   std::make_shared<Sequential>(
                       std::initializer_list<std::shared_ptr<Layer>>{std::make_shared<Noise>()})};
  set_random_source(model, [](at::IntArrayRef shape, const at::TensorOptions& options) {
    return torch::full(shape, 0.25, options);
  });
  EXPECT_TRUE(torch::equal(model.forward(torch::zeros({2})), torch::full({2}, 0.25)));
}

}  // namespace seg::draws_random_numbers_test
