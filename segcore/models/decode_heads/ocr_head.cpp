#include "segcore/models/blocks/self_attention_block.hpp"
#include "segcore/models/decode_heads/head_conv.hpp"
#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct OCRHeadParams : DecodeHeadParams {
  int64_t ocr_channels = 0;
  int64_t scale = 1;
};

namespace {

/// Joins each pixel with its attention over the regions.
class OCRAttention final : public SelfAttentionBlock {
 public:
  explicit OCRAttention(const OCRHeadParams& p) : SelfAttentionBlock(options(p)) {
    bottleneck_ = register_module("bottleneck", head_conv(p, 2 * p.channels, p.channels));
  }
  torch::Tensor operator()(const torch::Tensor& x, const torch::Tensor& regions,
                           bool align_corners) {
    const auto context =
        resize(SelfAttentionBlock::forward(x, regions), map_size(x), align_corners);
    return bottleneck_->forward(joined_maps({context, x}));
  }

 private:
  static SelfAttentionOptions options(const OCRHeadParams& p) {
    SelfAttentionOptions o;
    o.key_in_channels = o.query_in_channels = o.out_channels = p.channels;
    o.channels = p.ocr_channels;
    o.key_query_num_convs = 2;
    o.key_query_norm = o.value_out_norm = true;
    o.conv_cfg = p.conv_cfg;
    o.norm_cfg = p.norm_cfg;
    o.act_cfg = p.act_cfg;
    if (p.scale > 1) {
      o.query_downsample = std::make_shared<Lambda>(
          [scale = p.scale](const torch::Tensor& x) { return at::max_pool2d(x, scale); });
    }
    return o;
  }
  std::shared_ptr<ConvModule> bottleneck_;
};

}  // namespace

/// Describes each class by the mean of its pixels (by the head before), and each pixel by the
/// classes.
class OCRHead final : public CascadeDecodeHead {
 public:
  using Params = OCRHeadParams;
  static Schema<Params> schema() {
    return Schema<Params>("Object-contextual representations; second in a cascade.")
        .source("Yuan et al. 2019, arXiv:1909.11065")
        .include(DecodeHead::base_schema())
        .required("ocr_channels", &Params::ocr_channels, "width of the attention", at_least(1))
        .optional("scale", &Params::scale, "factor of the scores, and of pooling of the queries",
                  at_least(1));
  }
  OCRHead(const Params& p, const std::vector<FeatureInfo>& inputs)
      : CascadeDecodeHead(p, inputs), scale_(p.scale) {
    attention_ = register_module("object_context_block", std::make_shared<OCRAttention>(p));
    bottleneck_ = register_module("bottleneck", head_conv(p, in_channels(), p.channels, 3));
  }
  using CascadeDecodeHead::forward;
  torch::Tensor forward(const std::vector<torch::Tensor>& features,
                        const torch::Tensor& previous) override {
    const auto x = bottleneck_->forward(select_one(features));
    const auto weights =
        (previous.flatten(2) * static_cast<double>(scale_)).softmax(2);  // [N, classes, H*W]
    const auto regions = at::matmul(weights, x.flatten(2).transpose(1, 2))
                             .transpose(1, 2)
                             .unsqueeze(3);  // [N, channels, classes, 1]
    return cls_seg((*attention_)(x, regions, align_corners()));
  }

 protected:
  bool learns_from_output() const override { return true; }

 private:
  int64_t scale_;
  std::shared_ptr<OCRAttention> attention_;
  std::shared_ptr<ConvModule> bottleneck_;
};

SEG_REGISTER(DecodeHead, OCRHead);

}  // namespace seg
