#include "segcore/models/decode_heads/context_branches.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct DMHeadParams : DecodeHeadParams {
  std::vector<int64_t> filter_sizes{1, 3, 5, 7};
  bool fusion = false;
};

namespace {

/// Convolves each channel of an image with a filter made from that image.
class DMModule final : public Layer {
 public:
  DMModule(const DMHeadParams& p, int64_t in, int64_t size) : size_(size) {
    filter_gen_conv_ = register_module(
        "filter_gen_conv",
        std::make_shared<Conv2d>(ConvOptions{.in_channels = in, .out_channels = p.channels}));
    input_redu_conv_ = register_module("input_redu_conv", head_conv(p, in, p.channels));
    if (p.norm_cfg) norm_ = register_module("norm", p.norm_cfg->build(p.channels));
    if (p.act_cfg) activate_ = register_module("activate", p.act_cfg->build(false));
    if (p.fusion) {
      fusion_conv_ = register_module("fusion_conv", head_conv(p, p.channels, p.channels));
    }
  }
  torch::Tensor forward(const torch::Tensor& in) override {
    const auto filter = filter_gen_conv_->forward(at::adaptive_avg_pool2d(in, {size_, size_}));
    const auto x = input_redu_conv_->forward(in);
    const int64_t maps = x.size(0) * x.size(1);
    const int64_t pad = (size_ - 1) / 2, more = (size_ - 1) % 2;
    const auto padded =
        pad2d(x.reshape({1, maps, x.size(2), x.size(3)}), pad + more, pad, pad + more, pad);
    auto out = at::conv2d(padded, filter.reshape({maps, 1, size_, size_}), {}, 1,
                          at::IntArrayRef({0}), 1, maps)
                   .view_as(x);
    if (norm_) out = norm_->forward(out);
    if (activate_) out = activate_->forward(out);
    return fusion_conv_ ? fusion_conv_->forward(out) : out;
  }

 private:
  int64_t size_;
  std::shared_ptr<Conv2d> filter_gen_conv_;
  std::shared_ptr<ConvModule> input_redu_conv_;
  std::shared_ptr<Norm> norm_;               ///< may be null
  std::shared_ptr<Activation> activate_;     ///< may be null
  std::shared_ptr<ConvModule> fusion_conv_;  ///< may be null
};

}  // namespace

/// Filters of several sizes that are made from the image itself.
class DMHead final : public ContextBranchesHead {
 public:
  using Params = DMHeadParams;
  static Schema<Params> schema() {
    return Schema<Params>("Dynamic multi-scale filters.")
        .source("DMNet, He et al. 2019, ICCV, pages 3562-3572")
        .include(DecodeHead::base_schema())
        .optional("filter_sizes", &Params::filter_sizes, "sides of the filters", at_least(1))
        .optional("fusion", &Params::fusion, "a last convolution in each branch");
  }
  DMHead(const Params& p, const std::vector<FeatureInfo>& inputs)
      : ContextBranchesHead(
            p, inputs, "dcm_modules", p.filter_sizes,
            [&p](int64_t in, int64_t scale) { return std::make_shared<DMModule>(p, in, scale); }) {}
};

SEG_REGISTER(DecodeHead, DMHead);

}  // namespace seg
