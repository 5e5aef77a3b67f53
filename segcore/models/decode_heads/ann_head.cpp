#include "segcore/models/blocks/self_attention_block.hpp"
#include "segcore/models/decode_heads/head_conv.hpp"
#include "segcore/models/decode_heads/several_maps.hpp"
#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct ANNHeadParams : DecodeHeadParams {
  ANNHeadParams() {
    input_transform = "multiple_select";
    in_index = std::vector<int64_t>{2, 3};
  }
  int64_t project_channels = 0;
  std::vector<int64_t> query_scales{1};
  std::vector<int64_t> key_pool_scales{1, 3, 6, 8};
};

namespace {

/// Attention to pooled keys and values, summed over the scales of the queries, then joined with
/// the queries: the children `stages` and `bottleneck`.
class ANNBlock final : public BaseModule {
 public:
  /// \param fuses  keys from another map than the queries (AFNB), else from the same (APNB).
  ANNBlock(const ANNHeadParams& p, int64_t low, int64_t high, int64_t out, bool fuses)
      : align_corners_(p.align_corners) {
    stages_ = register_module("stages", std::make_shared<ListOf<SelfAttentionBlock>>());
    for (const int64_t scale : p.query_scales) {
      SelfAttentionOptions o;
      o.key_in_channels = low;
      o.query_in_channels = high;
      o.channels = p.project_channels;
      o.out_channels = out;
      o.share_key_query = !fuses;
      o.key_query_norm = true;
      o.conv_cfg = p.conv_cfg;
      o.norm_cfg = p.norm_cfg;
      o.act_cfg = p.act_cfg;
      if (scale > 1) {
        o.query_downsample = std::make_shared<Lambda>(
            [scale](const torch::Tensor& x) { return at::max_pool2d(x, scale); });
      }
      o.key_downsample =
          std::make_shared<Lambda>([scales = p.key_pool_scales](const torch::Tensor& x) {
            std::vector<torch::Tensor> pooled;
            for (const int64_t s : scales) {
              pooled.push_back(at::adaptive_avg_pool2d(x, {s, s}).flatten(2));
            }
            return at::cat(pooled, 2);  // [N, C, sum of s*s]
          });
      stages_->push_back(std::make_shared<SelfAttentionBlock>(o));
    }
    bottleneck_ = register_module("bottleneck", std::make_shared<ConvModule>(ConvModuleOptions{
                                                    .in_channels = out + high,
                                                    .out_channels = out,
                                                    .conv_cfg = p.conv_cfg,
                                                    .norm_cfg = p.norm_cfg,
                                                    .act_cfg = fuses ? ActCfg{} : p.act_cfg}));
  }
  torch::Tensor forward(const torch::Tensor& low, const torch::Tensor& high) {
    torch::Tensor context;
    for (const auto& stage : *stages_) {
      const auto one = resize(stage->forward(high, low), map_size(high), align_corners_);
      context = context.defined() ? context + one : one;
    }
    return bottleneck_->forward(joined_maps({context, high}));
  }

 private:
  bool align_corners_;
  std::shared_ptr<ListOf<SelfAttentionBlock>> stages_;
  std::shared_ptr<ConvModule> bottleneck_;
};

}  // namespace

/// Attention to few pooled keys: first to those of a finer stage, then to the map's own.
class ANNHead final : public DecodeHead {
 public:
  using Params = ANNHeadParams;
  static Schema<Params> schema() {
    return Schema<Params>("Asymmetric non-local network.")
        .source("Zhu et al. 2019, arXiv:1908.07678")
        .include(DecodeHead::base_schema())
        .required("project_channels", &Params::project_channels, "width of the attention",
                  at_least(1))
        .optional("query_scales", &Params::query_scales, "pooling of the queries, one branch each",
                  at_least(1))
        .optional("key_pool_scales", &Params::key_pool_scales, "sides of the pooled keys",
                  at_least(1))
        .validate([](const Params& p, Problems& problems) {
          check_several_maps(p, problems);
          const auto* maps = std::get_if<std::vector<int64_t>>(&p.in_index);
          if (maps && maps->size() != 2) {
            problems.error("in_index", text("must name 2 maps, got ", maps->size()));
          }
          if (p.query_scales.empty()) problems.error("query_scales", "must not be empty");
        });
  }
  ANNHead(const Params& p, const std::vector<FeatureInfo>& all) : DecodeHead(p, all) {
    const int64_t low = inputs()[0].channels, high = inputs()[1].channels;
    fusion_ = register_module("fusion", std::make_shared<ANNBlock>(p, low, high, high, true));
    bottleneck_ = register_module("bottleneck", head_conv(p, high, p.channels, 3));
    context_ = register_module(
        "context", std::make_shared<ANNBlock>(p, p.channels, p.channels, p.channels, false));
  }
  using DecodeHead::forward;
  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    const auto maps = select(features);
    auto x = fusion_->forward(maps[0], maps[1]);
    if (dropout_) x = dropout_->forward(x);
    x = bottleneck_->forward(x);
    return cls_seg(context_->forward(x, x));
  }

 private:
  std::shared_ptr<ANNBlock> fusion_, context_;
  std::shared_ptr<ConvModule> bottleneck_;
};

SEG_REGISTER(DecodeHead, ANNHead);

}  // namespace seg
