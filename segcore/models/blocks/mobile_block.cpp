#include "segcore/models/blocks/mobile_block.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "segcore/models/blocks/named_chain.hpp"
#include "segcore/models/nn/draws_random_numbers.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/models/weights/init.hpp"
#include "segcore/ops/attention/attention.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

/// A convolution with more padding at one side than at the other.
class LopsidedConv final : public Conv2d {
 public:
  LopsidedConv(const ConvOptions& o, int64_t before, int64_t after)
      : Conv2d(o), before_(before), after_(after) {}
  torch::Tensor forward(const torch::Tensor& x) override {
    return Conv2d::forward(pad2d(x, before_, after_, before_, after_));
  }

 private:
  int64_t before_, after_;
};

/// A factor for each channel.
class ChannelScale final : public Layer {
 public:
  ChannelScale(int64_t channels, double value)
      : gamma_(register_parameter("gamma", torch::full({channels}, value))) {}
  torch::Tensor forward(const torch::Tensor& x) override { return x * gamma_.view({1, -1, 1, 1}); }

 private:
  torch::Tensor gamma_;
};

/// Stochastic depth of efficientnet-pytorch: a function there, not a layer that could be set to
/// another probability.
class DropConnect final : public Layer, public DrawsRandomNumbers {
 public:
  explicit DropConnect(double p) : keep_(1 - p) {}
  torch::Tensor forward(const torch::Tensor& x) override {
    if (!is_training()) return x;
    return x / keep_ * (uniform({x.size(0), 1, 1, 1}, x.options()) + keep_).floor();
  }

 private:
  double keep_;
};

/// Where a convolution of a block stands.
enum class MobileRole { kStart, kExpand, kDepthwise, kProject };

/// Adds the layers of one block to a chain and finds their names.
class MobileBlockBuilder {
 public:
  MobileBlockBuilder(const MobileStyle& style, const MobileBlockOptions& options)
      : style_(style),
        o_(options),
        act_(options.act ? options.act : style.act),
        chain_(std::make_shared<NamedChain>()) {}

  std::shared_ptr<Layer> build() {
    switch (o_.kind) {
      case MobileKind::kConv:
        conv(MobileRole::kProject, strided(o_.in, o_.out), /*acts=*/true);
        break;
      case MobileKind::kSeparable:
        conv(MobileRole::kDepthwise, depthwise(o_.in, o_.kernel, o_.stride), /*acts=*/true);
        squeeze(o_.in);
        conv(MobileRole::kProject, {o_.in, o_.out, 1}, o_.acts_last);
        break;
      case MobileKind::kInverted:
        conv(MobileRole::kExpand, {o_.in, o_.middle, 1}, /*acts=*/true);
        conv(MobileRole::kDepthwise, depthwise(o_.middle, o_.kernel, o_.stride), /*acts=*/true);
        squeeze(o_.middle);
        conv(MobileRole::kProject, {o_.middle, o_.out, 1}, o_.acts_last);
        break;
      case MobileKind::kFused:
        conv(MobileRole::kExpand, strided(o_.in, o_.middle), /*acts=*/true);
        squeeze(o_.middle);
        conv(MobileRole::kProject, {o_.middle, o_.out, 1}, o_.acts_last);
        break;
      case MobileKind::kUniversal:
        universal();
        break;
      case MobileKind::kAttention:
        attention();
        break;
    }
    if (o_.shortcut) chain_->add_shortcut(drop());
    return chain_;
  }

 private:
  using Shape = MobileConvOptions;
  Shape strided(int64_t in, int64_t out) const {
    return {in, out, o_.kernel, o_.stride, o_.dilation};
  }
  Shape depthwise(int64_t width, int64_t kernel, int64_t stride) const {
    return {width, width, kernel, stride, o_.dilation, /*groups=*/width};
  }

  std::shared_ptr<Layer> drop() const {
    if (o_.drop_path_rate <= 0) return nullptr;
    if (style_.names == MobileNames::kEfficientNetPytorch) {
      return std::make_shared<DropConnect>(o_.drop_path_rate);
    }
    return std::make_shared<DropPath>(o_.drop_path_rate);
  }

  void universal() {
    if (o_.start_kernel > 0) {
      conv(MobileRole::kStart, depthwise(o_.in, o_.start_kernel, o_.kernel > 0 ? 1 : o_.stride),
           /*acts=*/false);
    }
    conv(MobileRole::kExpand, {o_.in, o_.middle, 1}, /*acts=*/true);
    if (o_.kernel > 0) {
      conv(MobileRole::kDepthwise, depthwise(o_.middle, o_.kernel, o_.stride), /*acts=*/true);
    }
    squeeze(o_.middle);
    conv(MobileRole::kProject, {o_.middle, o_.out, 1}, /*acts=*/false);
    scale();
  }
  void attention() {
    chain_->add("norm", std::make_shared<BatchNormAct>(style_.norm, o_.in));
    chain_->add("attn", std::make_shared<MobileAttention>(style_, o_));
    scale();
  }
  void scale() {
    if (style_.layer_scale) {
      chain_->add("layer_scale", std::make_shared<ChannelScale>(o_.out, *style_.layer_scale));
    }
  }

  void conv(MobileRole role, Shape shape, bool acts) {
    shape.padding = style_.padding;
    shape.nominal_size = o_.nominal_size;
    const auto [conv_name, norm_name] = conv_names(role);
    chain_->add(conv_name, mobile_conv(shape));
    chain_->add(norm_name, std::make_shared<BatchNormAct>(style_.norm, shape.out,
                                                          acts ? act_ : ActivationFn{nullptr}));
  }

  void squeeze(int64_t width) {
    if (o_.squeezed == 0) return;
    const auto [reduce_name, expand_name] = squeeze_names();
    const auto reduce = std::make_shared<Conv2d>(
        ConvOptions{.in_channels = width, .out_channels = o_.squeezed, .kernel_size = 1});
    const auto expand = std::make_shared<Conv2d>(
        ConvOptions{.in_channels = o_.squeezed, .out_channels = width, .kernel_size = 1});
    register_at(*chain_, reduce_name, reduce);
    register_at(*chain_, expand_name, expand);
    const auto act = style_.squeeze_act ? style_.squeeze_act : act_;
    chain_->then([reduce, expand, act, gate = style_.gate](const torch::Tensor& x) {
      return x * gate(expand->forward(act(reduce->forward(x.mean({2, 3}, /*keepdim=*/true)))));
    });
  }

  std::pair<std::string, std::string> conv_names(MobileRole role) {
    switch (style_.names) {
      case MobileNames::kTimm:
        return timm_names(role);
      case MobileNames::kTorchvision: {
        const auto group = text("block.", children_++);
        return {group + ".0", group + ".1"};
      }
      case MobileNames::kTorchvisionV2: {
        const auto i = children_++;
        if (role == MobileRole::kProject) return {text("conv.", i), text("conv.", i + 1)};
        return {text("conv.", i, ".0"), text("conv.", i, ".1")};
      }
      case MobileNames::kEfficientNetPytorch:
        if (role == MobileRole::kExpand) return {"_expand_conv", "_bn0"};
        if (role == MobileRole::kDepthwise) return {"_depthwise_conv", "_bn1"};
        return {"_project_conv", "_bn2"};
    }
    return {};
  }
  std::pair<std::string, std::string> timm_names(MobileRole role) {
    if (o_.kind == MobileKind::kUniversal) {
      const std::string group = role == MobileRole::kStart       ? "dw_start"
                                : role == MobileRole::kExpand    ? "pw_exp"
                                : role == MobileRole::kDepthwise ? "dw_mid"
                                                                 : "pw_proj";
      return {group + ".conv", group + ".bn"};
    }
    const auto norm = text("bn", ++children_);
    if (o_.kind == MobileKind::kConv) return {"conv", norm};
    if (role == MobileRole::kDepthwise) return {"conv_dw", norm};
    if (role == MobileRole::kProject) {
      return {o_.kind == MobileKind::kSeparable ? "conv_pw" : "conv_pwl", norm};
    }
    return {o_.kind == MobileKind::kFused ? "conv_exp" : "conv_pw", norm};
  }
  std::pair<std::string, std::string> squeeze_names() {
    if (style_.names == MobileNames::kTimm) return {"se.conv_reduce", "se.conv_expand"};
    if (style_.names == MobileNames::kEfficientNetPytorch) return {"_se_reduce", "_se_expand"};
    const auto group = text("block.", children_++);
    return {group + ".fc1", group + ".fc2"};
  }

  const MobileStyle& style_;
  const MobileBlockOptions& o_;
  ActivationFn act_;
  std::shared_ptr<NamedChain> chain_;
  int64_t children_ = 0;  ///< so far: torchvision's children, timm's norms
};

}  // namespace

std::shared_ptr<Conv2d> mobile_conv(const MobileConvOptions& o) {
  ConvOptions conv{.in_channels = o.in,
                   .out_channels = o.out,
                   .kernel_size = o.kernel,
                   .stride = o.stride,
                   .dilation = o.dilation,
                   .groups = o.groups,
                   .bias = false};
  const bool centred = o.padding == MobilePadding::kCentred || o.stride == 1;
  if (centred) {
    conv.padding = o.kernel / 2 * o.dilation;
    return std::make_shared<Conv2d>(conv);
  }
  if (o.padding == MobilePadding::kSame) {
    return build_conv(Spec<Conv2d>::of("{type: Conv2dAdaptivePadding}"), conv);
  }
  const int64_t outputs = (o.nominal_size + o.stride - 1) / o.stride;
  const int64_t missing =
      std::max<int64_t>((outputs - 1) * o.stride + o.kernel - o.nominal_size, 0);
  return std::make_shared<LopsidedConv>(conv, missing / 2, missing - missing / 2);
}

std::shared_ptr<Layer> mobile_block(const MobileStyle& style, const MobileBlockOptions& options) {
  return MobileBlockBuilder(style, options).build();
}

MobileAttention::MobileAttention(const MobileStyle& style, const MobileBlockOptions& o)
    : heads_(o.heads), key_dim_(o.key_dim) {
  const auto project = [this](const std::string& name, int64_t in, int64_t out) {
    auto chain = std::make_shared<NamedChain>();
    chain->add("proj", mobile_conv({in, out}));
    return register_module(name, chain);
  };
  query_ = project("query", o.in, heads_ * key_dim_);
  key_ = branch("key", style, o);
  value_ = branch("value", style, o);
  output_ = project("output", heads_ * key_dim_, o.out);
}

std::shared_ptr<Layer> MobileAttention::branch(const std::string& name, const MobileStyle& style,
                                               const MobileBlockOptions& o) {
  auto chain = std::make_shared<NamedChain>();
  if (o.key_stride > 1) {
    chain->add("down_conv", mobile_conv({o.in, o.in, o.kernel, o.key_stride, o.dilation, o.in,
                                         style.padding, o.nominal_size}));
    chain->add("norm", std::make_shared<BatchNormAct>(style.norm, o.in));
  }
  chain->add("proj", mobile_conv({o.in, o.key_dim}));
  return register_module(name, chain);
}

torch::Tensor MobileAttention::forward(const torch::Tensor& x) {
  const int64_t batch = x.size(0), height = x.size(2), width = x.size(3);
  const auto shared = [&](Layer& layer) {
    const auto out = layer.forward(x).flatten(2).transpose(1, 2).unsqueeze(1);  // [N, 1, P, d]
    return out.expand({-1, heads_, -1, -1});
  };
  const auto queries =
      query_->forward(x).view({batch, heads_, key_dim_, -1}).transpose(-1, -2);  // [N, heads, L, d]
  const auto out = attention(queries, shared(*key_), shared(*value_));
  return output_->forward(out.transpose(-1, -2).reshape({batch, heads_ * key_dim_, height, width}));
}

void MobileAttention::init_weights() {
  for_each_module(*this, [](torch::nn::Module& m) {
    if (auto* conv = dynamic_cast<Conv2d*>(&m)) xavier_init(*conv, 1, 0, true);
  });
}

}  // namespace seg
