#include "segcore/models/blocks/dappm.hpp"

#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/models/nn/pool.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

constexpr int64_t kPyramidScales = 5;

std::shared_ptr<ConvModule> pyramid_conv(int64_t in, int64_t out, int64_t kernel_size,
                                         int64_t groups = 1) {
  return std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = in,
                                                        .out_channels = out,
                                                        .kernel_size = kernel_size,
                                                        .padding = kernel_size / 2,
                                                        .groups = groups,
                                                        .bias = false,
                                                        .norm_cfg = norm_cfg_of("{type: BN}"),
                                                        .order = {'n', 'a', 'c'}});
}

}  // namespace

AggregationPyramid::AggregationPyramid(int64_t in_channels, int64_t width, int64_t out_channels,
                                       PyramidFusion fusion) {
  scales_ = register_module("scales", std::make_shared<ListOf<Layer>>());
  scales_->push_back(pyramid_conv(in_channels, width, 1));
  const auto add = [&](std::shared_ptr<Layer> pool) {
    auto scale = std::make_shared<Sequential>();
    scale->push_back(std::move(pool));
    scale->push_back(pyramid_conv(in_channels, width, 1));
    scales_->push_back(scale);
  };
  for (const int64_t stride : {2, 4, 8}) add(average_pool(2 * stride + 1, stride, stride));
  add(global_average());
  constexpr int64_t kPooled = kPyramidScales - 1;
  if (fusion == PyramidFusion::kInTurn) {
    in_turn_ = register_module("processes", std::make_shared<ListOf<ConvModule>>());
    for (int64_t i = 0; i < kPooled; ++i) in_turn_->push_back(pyramid_conv(width, width, 3));
  } else {
    parallel_ =
        register_module("processes", pyramid_conv(kPooled * width, kPooled * width, 3, kPooled));
  }
  compression_ =
      register_module("compression", pyramid_conv(kPyramidScales * width, out_channels, 1));
  shortcut_ = register_module("shortcut", pyramid_conv(in_channels, out_channels, 1));
}

torch::Tensor AggregationPyramid::forward(const torch::Tensor& x) {
  std::vector<torch::Tensor> maps{(*scales_)[0].forward(x)}, sums;
  for (size_t i = 1; i < scales_->size(); ++i) {
    const auto up = resize((*scales_)[i].forward(x), map_size(x));
    if (in_turn_) {
      maps.push_back((*in_turn_)[i - 1].forward(up + maps[i - 1]));
    } else {
      sums.push_back(up + maps[0]);
    }
  }
  if (parallel_) maps.push_back(parallel_->forward(joined_maps(sums)));
  return compression_->forward(joined_maps(maps)) + shortcut_->forward(x);
}

}  // namespace seg
