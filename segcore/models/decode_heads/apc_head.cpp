#include "segcore/models/decode_heads/context_branches.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct APCHeadParams : DecodeHeadParams {
  std::vector<int64_t> pool_scales{1, 2, 3, 6};
  bool fusion = true;
};

namespace {

/// Gives each position a sum of pooled regions, weighted by itself and the mean of the map.
class APCModule final : public Layer {
 public:
  APCModule(const APCHeadParams& p, int64_t in, int64_t scale) : scale_(scale) {
    const auto conv = [&](const char* name, int64_t from) {
      return register_module(name, head_conv(p, from, p.channels));
    };
    pooled_redu_conv_ = conv("pooled_redu_conv", in);
    input_redu_conv_ = conv("input_redu_conv", in);
    global_info_ = conv("global_info", p.channels);
    gla_ = register_module("gla", std::make_shared<Conv2d>(ConvOptions{
                                      .in_channels = p.channels, .out_channels = scale * scale}));
    residual_conv_ = conv("residual_conv", p.channels);
    if (p.fusion) fusion_conv_ = conv("fusion_conv", p.channels);
  }
  torch::Tensor forward(const torch::Tensor& in) override {
    const auto pooled =
        pooled_redu_conv_->forward(at::adaptive_avg_pool2d(in, {scale_, scale_})).flatten(2);
    const auto x = input_redu_conv_->forward(in);
    const auto whole = global_info_->forward(at::adaptive_avg_pool2d(x, {1, 1}));  // [N, C, 1, 1]
    const auto affinity = gla_->forward(x + whole).flatten(2).sigmoid();           // [N, s*s, H*W]
    const auto out = at::bmm(pooled, affinity).view_as(x);
    const auto sum = (residual_conv_->forward(out) + x).relu();
    return fusion_conv_ ? fusion_conv_->forward(sum) : sum;
  }

 private:
  int64_t scale_;
  std::shared_ptr<ConvModule> pooled_redu_conv_, input_redu_conv_, global_info_, residual_conv_;
  std::shared_ptr<Conv2d> gla_;
  std::shared_ptr<ConvModule> fusion_conv_;  ///< may be null
};

}  // namespace

/// Adaptive context of several sizes.
class APCHead final : public ContextBranchesHead {
 public:
  using Params = APCHeadParams;
  static Schema<Params> schema() {
    return Schema<Params>("Adaptive pyramid context.")
        .source("APCNet, He et al. 2019, CVPR, pages 7519-7528")
        .include(DecodeHead::base_schema())
        .optional("pool_scales", &Params::pool_scales, "sides of the pooled maps", at_least(1))
        .optional("fusion", &Params::fusion, "a last convolution in each branch");
  }
  APCHead(const Params& p, const std::vector<FeatureInfo>& inputs)
      : ContextBranchesHead(
            p, inputs, "acm_modules", p.pool_scales,
            [&p](int64_t in, int64_t scale) { return std::make_shared<APCModule>(p, in, scale); }) {
  }
};

SEG_REGISTER(DecodeHead, APCHead);

}  // namespace seg
