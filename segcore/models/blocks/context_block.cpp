#include "segcore/models/blocks/context_block.hpp"

#include <algorithm>

#include "segcore/torch.hpp"

namespace seg {
namespace {

/// torch.nn.LayerNorm over [C, 1, 1].
class ContextNorm final : public Layer {
 public:
  explicit ContextNorm(int64_t channels) {
    weight_ = register_parameter("weight", torch::ones({channels, 1, 1}));
    bias_ = register_parameter("bias", torch::zeros({channels, 1, 1}));
  }
  std::vector<std::string> python_names() const override { return {"LayerNorm"}; }
  torch::Tensor forward(const torch::Tensor& x) override {
    return at::layer_norm(x, weight_.sizes(), weight_, bias_);
  }

 private:
  torch::Tensor weight_, bias_;
};

}  // namespace

Schema<ContextBlock::Params> ContextBlock::schema() {
  return Schema<Params>("Global context, the same for all positions.")
      .source("GCNet, Cao et al. 2019, arXiv:1904.11492")
      .include(PluginLayer::base_schema())
      .required("ratio", &Params::ratio, "width inside to width of the map", above(0))
      .optional("pooling_type", &Params::pooling_type, "by attention or by the mean",
                one_of({"att", "avg"}))
      .optional("fusion_types", &Params::fusion_types, "how context and map are combined",
                one_of({"channel_add", "channel_mul"}))
      .validate([](const Params& p, Problems& problems) {
        if (p.fusion_types.empty()) problems.error("fusion_types", "must not be empty");
      });
}

ContextBlock::ContextBlock(int64_t in_channels, const ContextBlockOptions& o) {
  const auto planes = static_cast<int64_t>(static_cast<double>(in_channels) * o.ratio);
  if (o.pooling_type == "att") {
    conv_mask_ = register_module("conv_mask", std::make_shared<Conv2d>(ConvOptions{
                                                  .in_channels = in_channels, .out_channels = 1}));
  }
  const auto row = [&](const char* type, const char* child) -> std::shared_ptr<Sequential> {
    if (std::find(o.fusion_types.begin(), o.fusion_types.end(), type) == o.fusion_types.end()) {
      return nullptr;
    }
    auto out = std::make_shared<Sequential>();
    out->push_back(
        std::make_shared<Conv2d>(ConvOptions{.in_channels = in_channels, .out_channels = planes}));
    out->push_back(std::make_shared<ContextNorm>(planes));
    out->push_back(std::make_shared<Lambda>([](const torch::Tensor& x) { return x.relu(); }));
    out->push_back(
        std::make_shared<Conv2d>(ConvOptions{.in_channels = planes, .out_channels = in_channels}));
    return register_module(child, out);
  };
  channel_add_conv_ = row("channel_add", "channel_add_conv");
  channel_mul_conv_ = row("channel_mul", "channel_mul_conv");
  ContextBlock::init_weights();
}

void ContextBlock::init_weights() {
  PluginLayer::init_weights();
  if (conv_mask_) kaiming_init(*conv_mask_, {.fan_out = false});
  if (channel_add_conv_) constant_init(*(*channel_add_conv_)[3], 0);
  if (channel_mul_conv_) constant_init(*(*channel_mul_conv_)[3], 0);
}

torch::Tensor ContextBlock::forward(const torch::Tensor& x) {
  torch::Tensor context;  // [N, C, 1, 1]
  if (conv_mask_) {
    const auto mask = conv_mask_->forward(x).flatten(2).softmax(2);  // [N, 1, H*W]
    context = at::matmul(x.flatten(2), mask.transpose(1, 2)).unsqueeze(3);
  } else {
    context = at::adaptive_avg_pool2d(x, {1, 1});
  }
  auto out = x;
  if (channel_mul_conv_) out = out * channel_mul_conv_->forward(context).sigmoid();
  if (channel_add_conv_) out = out + channel_add_conv_->forward(context);
  return out;
}

SEG_REGISTER(PluginLayer, ContextBlock);

}  // namespace seg
