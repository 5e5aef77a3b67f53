/// Parameters that a module itself keeps from being trained.
#pragma once
#include <torch/nn/module.h>

#include <string>
#include <vector>

namespace seg {

/// Stops the gradients of all parameters in whose names none of these is found (mmseg's
/// `frozen_exclude`); "all" among them leaves all to be trained.
void freeze_all_but(torch::nn::Module& module, const std::vector<std::string>& trained);

}  // namespace seg
