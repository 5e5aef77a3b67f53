/// First values of networks whose libraries do not use Kaiming's rule.
#pragma once
#include <torch/nn/module.h>

#include "segcore/models/nn/conv.hpp"

namespace seg {

/// PyTorch's own values for all convolutions.
inline void start_as_torch(torch::nn::Module& network) {
  for_each_module(network, [](torch::nn::Module& m) {
    if (auto* conv = dynamic_cast<Conv2d*>(&m)) conv->reset_parameters();
  });
}

/// He's rule by the fan out of one group, as TensorFlow's mobile networks.
inline void start_by_group_fan_out(torch::nn::Module& network) {
  for_each_module(network, [](torch::nn::Module& m) {
    if (auto* conv = dynamic_cast<Conv2d*>(&m)) group_fan_out_init(*conv);
  });
}

}  // namespace seg
