/// Pooling as layers.
#pragma once
#include "segcore/models/nn/base_module.hpp"

namespace seg {

/// The mean of each map: [N, C, 1, 1].
std::shared_ptr<Layer> global_average();
/// torch.nn.AvgPool2d, which counts the zeros of the padding.
std::shared_ptr<Layer> average_pool(int64_t kernel_size, int64_t stride, int64_t padding);

}  // namespace seg
