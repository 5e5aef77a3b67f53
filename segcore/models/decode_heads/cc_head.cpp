#include <limits>

#include "segcore/models/decode_heads/fcn_head.hpp"
#include "segcore/models/nn/scale.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct CCHeadParams : FCNHeadParams {
  int64_t recurrence = 2;
};

namespace {

/// Attention of each position to its row and its column.
class CrissCrossAttention final : public Layer {
 public:
  explicit CrissCrossAttention(int64_t channels) {
    const auto conv = [&](const char* name, int64_t out) {
      return register_module(name, std::make_shared<Conv2d>(
                                       ConvOptions{.in_channels = channels, .out_channels = out}));
    };
    query_conv_ = conv("query_conv", channels / 8);
    key_conv_ = conv("key_conv", channels / 8);
    value_conv_ = conv("value_conv", channels);
    gamma_ = register_module("gamma", std::make_shared<Scale>(0.0));
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    const auto query = query_conv_->forward(x), key = key_conv_->forward(x),
               value = value_conv_->forward(x);
    const int64_t height = x.size(2);
    // The position itself counts once, in its row.
    const auto itself = at::eye(height, x.options().dtype(at::kBool)).unsqueeze(1);
    const auto down = at::einsum("bchw,bciw->bhwi", {query, key})
                          .masked_fill(itself, -std::numeric_limits<double>::infinity());
    const auto across = at::einsum("bchw,bchj->bhwj", {query, key});
    const auto attention = at::cat({down, across}, 3).softmax(3);  // [N, H, W, H+W]
    const auto out = at::einsum("bciw,bhwi->bchw", {value, attention.slice(3, 0, height)}) +
                     at::einsum("bchj,bhwj->bchw", {value, attention.slice(3, height)});
    return gamma_->forward(out) + x;
  }

 private:
  std::shared_ptr<Conv2d> query_conv_, key_conv_, value_conv_;
  std::shared_ptr<Scale> gamma_;
};

}  // namespace

/// Criss-cross attention, applied several times, between two convolutions.
class CCHead final : public MiddleModuleHead {
 public:
  using Params = CCHeadParams;
  static Schema<Params> schema() {
    return Schema<Params>("Criss-cross attention.")
        .source("CCNet, Huang et al. 2018, arXiv:1811.11721")
        .include(FCNHead::options(/*with_num_convs=*/false))
        .optional("recurrence", &Params::recurrence, "times that the attention is applied",
                  at_least(1));
  }
  CCHead(const Params& p, const std::vector<FeatureInfo>& inputs)
      : MiddleModuleHead(p, inputs), recurrence_(p.recurrence) {
    if (p.channels < 8) throw OptionError("channels", "must be at least 8");
    cca_ = register_module("cca", std::make_shared<CrissCrossAttention>(p.channels));
  }

 private:
  torch::Tensor middle(const torch::Tensor& x) override {
    auto out = x;
    for (int64_t i = 0; i < recurrence_; ++i) out = cca_->forward(out);
    return out;
  }
  int64_t recurrence_;
  std::shared_ptr<CrissCrossAttention> cca_;
};

SEG_REGISTER(DecodeHead, CCHead);

}  // namespace seg
