#include <algorithm>

#include "segcore/models/backbones/resnet.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct ResNeStParams : GroupedResNetParams {
  ResNeStParams() { deep_stem = avg_down = true; }
  int64_t radix = 2;
  int64_t reduction_factor = 4;
  bool avg_down_stride = true;
};

namespace {

/// A convolution to `radix` splits of a map, which are summed by weights that the mean of all
/// splits gives: children `conv`, `bn0`, `fc1`, `bn1`, `fc2`. A pool may follow.
class SplitAttentionConv2d final : public Layer {
 public:
  SplitAttentionConv2d(const ResNeStParams& p, const ResBlockOptions& o,
                       const ResBottleneck::Middle& middle)
      : radix_(p.radix), groups_(middle.groups) {
    // Blocks of the style "caffe" have strided before.
    const int64_t stride = o.style == "caffe" ? 1 : o.stride;
    pool_stride_ = p.avg_down_stride ? stride : 1;
    const int64_t width = middle.width;
    const int64_t narrow = std::max<int64_t>(width * radix_ / p.reduction_factor, 32);
    conv_ = register_module("conv",
                            build_conv(o.middle_cfg(), {.in_channels = width,
                                                        .out_channels = width * radix_,
                                                        .kernel_size = 3,
                                                        .stride = p.avg_down_stride ? 1 : stride,
                                                        .padding = o.dilation,
                                                        .dilation = o.dilation,
                                                        .groups = groups_ * radix_,
                                                        .bias = false}));
    norm0_ = register_norm(*this, o.norm_cfg, width * radix_, "0");
    const auto dense = [this](int64_t in, int64_t out) {
      return std::make_shared<Conv2d>(
          ConvOptions{.in_channels = in, .out_channels = out, .groups = groups_});
    };
    fc1_ = register_module("fc1", dense(width, narrow));
    norm1_ = register_norm(*this, o.norm_cfg, narrow, "1");
    fc2_ = register_module("fc2", dense(narrow, width * radix_));
  }

  torch::Tensor forward(const torch::Tensor& in) override {
    const auto x = norm0_->forward(conv_->forward(in)).relu_();  // [N, radix * C, H, W]
    const int64_t n = x.size(0), h = x.size(2), w = x.size(3);
    const auto splits = x.view({n, radix_, -1, h, w});
    auto gate = at::adaptive_avg_pool2d(splits.sum(1), {1, 1});  // [N, C, 1, 1]
    gate = fc2_->forward(norm1_->forward(fc1_->forward(gate)).relu_());
    if (radix_ > 1) {
      gate = gate.view({n, groups_, radix_, -1}).transpose(1, 2).softmax(1);
    } else {
      gate = gate.sigmoid();
    }
    const auto out = (gate.reshape({n, radix_, -1, 1, 1}) * splits).sum(1);  // [N, C, H, W]
    return pool_stride_ > 1 ? at::avg_pool2d(out, 3, pool_stride_, 1) : out;
  }

 private:
  int64_t radix_, groups_, pool_stride_;
  std::shared_ptr<Conv2d> conv_, fc1_, fc2_;
  std::shared_ptr<Norm> norm0_, norm1_;
};

}  // namespace

/// A ResNet of the kind V1d whose 3x3 convolutions weigh splits of their maps.
class ResNeSt final : public ResNet {
 public:
  using Params = ResNeStParams;
  static Schema<Params> schema() {
    return Schema<Params>("Residual network with split attention.")
        .source("Zhang et al. 2020, arXiv:2004.08955")
        .include(GroupedResNetParams::schema({50, 101, 152, 200}))
        .optional("radix", &Params::radix, "splits of a map", at_least(1))
        .optional("reduction_factor", &Params::reduction_factor,
                  "divisor of the width inside the attention", at_least(1))
        .optional("avg_down_stride", &Params::avg_down_stride,
                  "blocks that stride pool after the convolution");
  }
  explicit ResNeSt(const Params& p)
      : ResNet(p.heeded(), resnet_blocks(p.depth), ResBottleneck::kExpansion,
               [p](ResBlockOptions o) -> std::shared_ptr<Layer> {
                 o.zero_init = false;
                 auto middle = p.middle(o);
                 middle.layer = std::make_shared<SplitAttentionConv2d>(p, o, middle);
                 return std::make_shared<ResBottleneck>(o, middle);
               }) {}
};

SEG_REGISTER(Backbone, ResNeSt);

}  // namespace seg
