#include "segcore/models/blocks/self_attention_block.hpp"
#include "segcore/models/decode_heads/head_conv.hpp"
#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct ISAHeadParams : DecodeHeadParams {
  int64_t isa_channels = 0;
  std::array<int64_t, 2> down_factor{8, 8};
};

namespace {

class ISAAttention final : public SelfAttentionBlock {
 public:
  explicit ISAAttention(const ISAHeadParams& p) : SelfAttentionBlock(options(p)) {
    output_project_ = register_module("output_project", head_conv(p, p.channels, p.channels));
  }
  torch::Tensor operator()(const torch::Tensor& x) {
    return output_project_->forward(SelfAttentionBlock::forward(x, x));
  }

 private:
  static SelfAttentionOptions options(const ISAHeadParams& p) {
    SelfAttentionOptions o;
    o.key_in_channels = o.query_in_channels = o.out_channels = p.channels;
    o.channels = p.isa_channels;
    o.key_query_num_convs = 2;
    o.key_query_norm = true;
    o.with_out = false;
    o.conv_cfg = p.conv_cfg;
    o.norm_cfg = p.norm_cfg;
    o.act_cfg = p.act_cfg;
    return o;
  }
  std::shared_ptr<ConvModule> output_project_;
};

}  // namespace

/// Attention in two steps: among positions far from each other, then among neighbours.
class ISAHead final : public DecodeHead {
 public:
  using Params = ISAHeadParams;
  static Schema<Params> schema() {
    return Schema<Params>("Interlaced sparse self-attention.")
        .source("Huang et al. 2019, arXiv:1907.12273")
        .include(DecodeHead::base_schema())
        .required("isa_channels", &Params::isa_channels, "width of the attention", at_least(1))
        .optional("down_factor", &Params::down_factor, "height and width of a neighbourhood",
                  at_least(1));
  }
  ISAHead(const Params& p, const std::vector<FeatureInfo>& inputs)
      : DecodeHead(p, inputs), block_h_(p.down_factor[0]), block_w_(p.down_factor[1]) {
    in_conv_ = register_module("in_conv", head_conv(p, in_channels(), p.channels, 3));
    global_relation_ = register_module("global_relation", std::make_shared<ISAAttention>(p));
    local_relation_ = register_module("local_relation", std::make_shared<ISAAttention>(p));
    out_conv_ = register_module("out_conv", head_conv(p, 2 * p.channels, p.channels));
  }
  using DecodeHead::forward;
  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    const auto residual = in_conv_->forward(select_one(features));
    const int64_t n = residual.size(0), c = residual.size(1), h = residual.size(2),
                  w = residual.size(3);
    const int64_t rows = (h + block_h_ - 1) / block_h_, columns = (w + block_w_ - 1) / block_w_;
    const int64_t pad_h = rows * block_h_ - h, pad_w = columns * block_w_ - w;
    auto x = pad2d(residual, pad_w / 2, pad_w - pad_w / 2, pad_h / 2, pad_h - pad_h / 2);
    x = x.reshape({n, c, rows, block_h_, columns, block_w_})
            .permute({0, 3, 5, 1, 2, 4})
            .reshape({-1, c, rows, columns});  // [n * block_h * block_w, c, rows, columns]
    x = (*global_relation_)(x);
    x = x.reshape({n, block_h_, block_w_, c, rows, columns})
            .permute({0, 4, 5, 3, 1, 2})
            .reshape({-1, c, block_h_, block_w_});  // [n * rows * columns, c, block_h, block_w]
    x = (*local_relation_)(x);
    x = x.reshape({n, rows, columns, c, block_h_, block_w_})
            .permute({0, 3, 1, 4, 2, 5})
            .reshape({n, c, rows * block_h_, columns * block_w_})
            .slice(2, pad_h / 2, pad_h / 2 + h)
            .slice(3, pad_w / 2, pad_w / 2 + w);  // [n, c, h, w]
    return cls_seg(out_conv_->forward(joined_maps({x, residual})));
  }

 private:
  int64_t block_h_, block_w_;
  std::shared_ptr<ConvModule> in_conv_, out_conv_;
  std::shared_ptr<ISAAttention> global_relation_, local_relation_;
};

SEG_REGISTER(DecodeHead, ISAHead);

}  // namespace seg
