#include "segcore/models/blocks/self_attention_block.hpp"
#include "segcore/models/decode_heads/head_conv.hpp"
#include "segcore/models/nn/scale.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct DAHeadParams : DecodeHeadParams {
  int64_t pam_channels = 0;
};

namespace {

/// Attention between positions.
class DAPositionAttention final : public SelfAttentionBlock {
 public:
  DAPositionAttention(int64_t in_channels, int64_t channels)
      : SelfAttentionBlock(options(in_channels, channels)) {
    gamma_ = register_module("gamma", std::make_shared<Scale>(0.0));
  }
  torch::Tensor operator()(const torch::Tensor& x) {
    return gamma_->forward(SelfAttentionBlock::forward(x, x)) + x;
  }

 private:
  static SelfAttentionOptions options(int64_t in_channels, int64_t channels) {
    SelfAttentionOptions o;
    o.key_in_channels = o.query_in_channels = o.out_channels = in_channels;
    o.channels = channels;
    o.matmul_norm = o.with_out = false;
    o.act_cfg = std::nullopt;
    return o;
  }
  std::shared_ptr<Scale> gamma_;
};

/// Attention between channels.
class DAChannelAttention final : public Layer {
 public:
  DAChannelAttention() { gamma_ = register_module("gamma", std::make_shared<Scale>(0.0)); }
  torch::Tensor forward(const torch::Tensor& x) override {
    const auto flat = x.flatten(2);                           // [N, C, H*W]
    const auto energy = at::bmm(flat, flat.transpose(1, 2));  // [N, C, C]
    const auto attention = (energy.amax(-1, true) - energy).softmax(-1);
    return gamma_->forward(at::bmm(attention, flat).view_as(x)) + x;
  }

 private:
  std::shared_ptr<Scale> gamma_;
};

}  // namespace

/// Attention between positions and between channels, each with a classifier of its own in training.
class DAHead final : public DecodeHead {
 public:
  using Params = DAHeadParams;
  static Schema<Params> schema() {
    return Schema<Params>("Dual attention: between positions and between channels.")
        .source("DANet, Fu et al. 2018, arXiv:1809.02983")
        .include(DecodeHead::base_schema())
        .required("pam_channels", &Params::pam_channels, "width of the attention of positions",
                  at_least(1));
  }
  DAHead(const Params& p, const std::vector<FeatureInfo>& inputs) : DecodeHead(p, inputs) {
    const auto conv = [&](const char* name, int64_t in) {
      return register_module(name, head_conv(p, in, p.channels, 3));
    };
    const auto classifier = [&](const char* name) {
      return register_module(name, std::make_shared<Conv2d>(ConvOptions{
                                       .in_channels = p.channels, .out_channels = p.num_classes}));
    };
    pam_in_conv_ = conv("pam_in_conv", in_channels());
    pam_ =
        register_module("pam", std::make_shared<DAPositionAttention>(p.channels, p.pam_channels));
    pam_out_conv_ = conv("pam_out_conv", p.channels);
    pam_conv_seg_ = classifier("pam_conv_seg");
    cam_in_conv_ = conv("cam_in_conv", in_channels());
    cam_ = register_module("cam", std::make_shared<DAChannelAttention>());
    cam_out_conv_ = conv("cam_out_conv", p.channels);
    cam_conv_seg_ = classifier("cam_conv_seg");
  }
  using DecodeHead::forward;
  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    const auto [pam, cam] = attend(features);
    return cls_seg(pam + cam);
  }
  LossMap loss(const std::vector<torch::Tensor>& features, const Targets& targets) override {
    const auto [pam, cam] = attend(features);
    const auto dropped = [this](const torch::Tensor& x) {
      return dropout_ ? dropout_->forward(x) : x;
    };
    const auto pam_logits = pam_conv_seg_->forward(dropped(pam));
    const auto cam_logits = cam_conv_seg_->forward(dropped(cam));
    LossMap out;
    const auto add = [&](const std::string& prefix, const torch::Tensor& logits) {
      for (auto& [name, value] : loss_by_feat(logits, targets.labels)) {
        out.emplace_back(prefix + "." + name, value);
      }
    };
    add("pam_cam", cls_seg(pam + cam));
    add("pam", pam_logits);
    add("cam", cam_logits);
    return out;
  }

 private:
  std::pair<torch::Tensor, torch::Tensor> attend(const std::vector<torch::Tensor>& features) {
    const auto x = select_one(features);
    return {pam_out_conv_->forward((*pam_)(pam_in_conv_->forward(x))),
            cam_out_conv_->forward(cam_->forward(cam_in_conv_->forward(x)))};
  }

  std::shared_ptr<ConvModule> pam_in_conv_, pam_out_conv_, cam_in_conv_, cam_out_conv_;
  std::shared_ptr<DAPositionAttention> pam_;
  std::shared_ptr<DAChannelAttention> cam_;
  std::shared_ptr<Conv2d> pam_conv_seg_, cam_conv_seg_;
};

SEG_REGISTER(DecodeHead, DAHead);

}  // namespace seg
