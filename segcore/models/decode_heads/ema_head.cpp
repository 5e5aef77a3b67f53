#include <cmath>

#include "segcore/models/decode_heads/head_conv.hpp"
#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/models/nn/normalize.hpp"
#include "segcore/models/nn/uses_communicator.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct EMAHeadParams : DecodeHeadParams {
  int64_t ema_channels = 0;
  int64_t num_bases = 0;
  int64_t num_stages = 0;
  bool concat_input = true;
  double momentum = 0.1;
};

namespace {

/// Reconstructs a map from few bases that expectation maximisation finds in it.
class EMAModule final : public Layer, public UsesCommunicator {
 public:
  EMAModule(int64_t channels, int64_t bases, int64_t stages, double momentum)
      : stages_(stages), momentum_(momentum) {
    const auto first =
        torch::empty({1, channels, bases}).normal_(0, std::sqrt(2.0 / static_cast<double>(bases)));
    bases_ = register_buffer("bases", normalize(first, 1));
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    // No gradient passes: neither bases nor attention are differentiated, as in the paper.
    const torch::NoGradGuard no_grad;
    const auto flat = x.flatten(2);                 // [N, C, H*W]
    auto bases = bases_.repeat({x.size(0), 1, 1});  // [N, C, K]
    torch::Tensor attention;
    for (int64_t i = 0; i < stages_; ++i) {
      attention = at::bmm(flat.transpose(1, 2), bases).softmax(2);  // [N, H*W, K]
      bases = normalize(at::bmm(flat, normalize(attention, 1, /*p=*/1)), 1);
    }
    const auto out = at::bmm(bases, attention.transpose(1, 2)).view_as(x);
    if (is_training()) {
      auto mean = bases.mean(0, true);
      average_over_processes_(mean);
      bases_.mul_(1 - momentum_).add_(normalize(mean, 1), momentum_);
    }
    return out;
  }

 private:
  int64_t stages_;
  double momentum_;
  torch::Tensor bases_;
};

}  // namespace

/// Expectation-maximisation attention.
class EMAHead final : public DecodeHead {
 public:
  using Params = EMAHeadParams;
  static Schema<Params> schema() {
    return Schema<Params>("Expectation-maximisation attention.")
        .source("EMANet, Li et al. 2019, arXiv:1907.13426")
        .include(DecodeHead::base_schema())
        .required("ema_channels", &Params::ema_channels, "width of the attention", at_least(1))
        .required("num_bases", &Params::num_bases, "bases", at_least(1))
        .required("num_stages", &Params::num_stages, "steps of the maximisation", at_least(1))
        .optional("concat_input", &Params::concat_input,
                  "a last convolution takes the input beside the result")
        .optional("momentum", &Params::momentum, "share of a batch in the kept bases",
                  in_range(0, 1));
  }
  EMAHead(const Params& p, const std::vector<FeatureInfo>& inputs) : DecodeHead(p, inputs) {
    const auto plain = [&](const NormCfg& norm) {
      return std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = p.ema_channels,
                                                            .out_channels = p.ema_channels,
                                                            .conv_cfg = p.conv_cfg,
                                                            .norm_cfg = norm,
                                                            .act_cfg = std::nullopt});
    };
    ema_module_ = register_module(
        "ema_module",
        std::make_shared<EMAModule>(p.ema_channels, p.num_bases, p.num_stages, p.momentum));
    ema_in_conv_ = register_module("ema_in_conv", head_conv(p, in_channels(), p.ema_channels, 3));
    ema_mid_conv_ = register_module("ema_mid_conv", plain({}));
    for (auto& parameter : ema_mid_conv_->parameters()) parameter.set_requires_grad(false);
    ema_out_conv_ = register_module("ema_out_conv", plain(p.norm_cfg));
    bottleneck_ = register_module("bottleneck", head_conv(p, p.ema_channels, p.channels, 3));
    if (p.concat_input) {
      conv_cat_ =
          register_module("conv_cat", head_conv(p, in_channels() + p.channels, p.channels, 3));
    }
  }
  using DecodeHead::forward;
  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    const auto x = select_one(features);
    const auto in = ema_in_conv_->forward(x);
    const auto found = ema_module_->forward(ema_mid_conv_->forward(in)).relu();
    auto out = bottleneck_->forward((in + ema_out_conv_->forward(found)).relu());
    if (conv_cat_) out = conv_cat_->forward(joined_maps({x, out}));
    return cls_seg(out);
  }

 private:
  std::shared_ptr<EMAModule> ema_module_;
  std::shared_ptr<ConvModule> ema_in_conv_, ema_mid_conv_, ema_out_conv_, bottleneck_;
  std::shared_ptr<ConvModule> conv_cat_;  ///< may be null
};

SEG_REGISTER(DecodeHead, EMAHead);

}  // namespace seg
