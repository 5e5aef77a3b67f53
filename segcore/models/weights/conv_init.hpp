/// The initialisation of convolutional networks and heads that have no `init_cfg` of their own.
#pragma once
#include "segcore/models/nn/base_module.hpp"

namespace seg {

/// Fills the convolutions below `root` by Kaiming's normal with the fan out, and the norms with 1
/// and 0. Biases of convolutions keep the values of their construction.
void kaiming_convs_init(torch::nn::Module& root);

}  // namespace seg
