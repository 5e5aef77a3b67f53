#include "segcore/models/weights/conv_init.hpp"

#include "segcore/models/nn/conv.hpp"
#include "segcore/models/nn/norm.hpp"
#include "segcore/torch.hpp"

namespace seg {

void kaiming_convs_init(torch::nn::Module& root) {
  for_each_module(root, [](torch::nn::Module& module) {
    if (auto* conv = dynamic_cast<Conv2d*>(&module)) {
      torch::nn::init::kaiming_normal_(conv->weight, 0, torch::kFanOut, torch::kReLU);
    } else if (auto* norm = dynamic_cast<Norm*>(&module); norm && norm->is_batch_norm()) {
      constant_init(*norm, 1);
    }
  });
}

}  // namespace seg
