#include "segcore/models/blocks/ppm.hpp"

#include "segcore/models/nn/resize.hpp"
#include "segcore/torch.hpp"

namespace seg {

PPM::PPM(const PPMOptions& o) : align_corners_(o.align_corners) {
  for (const int64_t scale : o.pool_scales) {
    auto pool = std::make_shared<Lambda>([scale](const torch::Tensor& x) {
      return at::adaptive_avg_pool2d(x, {scale, scale});
    });
    auto conv = std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = o.in_channels,
                                                               .out_channels = o.channels,
                                                               .kernel_size = 1,
                                                               .conv_cfg = o.conv_cfg,
                                                               .norm_cfg = o.norm_cfg,
                                                               .act_cfg = o.act_cfg});
    auto branch = std::make_shared<Sequential>();
    branch->push_back(pool);
    branch->push_back(conv);
    branches_.push_back(register_module(std::to_string(branches_.size()), branch));
  }
}

std::vector<torch::Tensor> PPM::forward(const torch::Tensor& x) {
  std::vector<torch::Tensor> out;
  for (const auto& branch : branches_) {
    out.push_back(resize(branch->forward(x), map_size(x), align_corners_));
  }
  return out;
}

}  // namespace seg
