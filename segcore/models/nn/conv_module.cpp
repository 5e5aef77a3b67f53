#include "segcore/models/nn/conv_module.hpp"

#include <algorithm>

#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/ops/conv2d/conv2d.hpp"
#include "segcore/torch.hpp"

namespace seg {

Schema<ConvModuleCfg> ConvModuleCfg::schema() {
  using P = ConvModuleCfg;
  return Schema<P>("A convolution with norm and activation.")
      .optional("kernel_size", &P::kernel_size, "of the convolution", sides_at_least(1))
      .optional("dilation", &P::dilation, "of the convolution", sides_at_least(1))
      .optional("groups", &P::groups, "of channels that are convolved apart", at_least(1))
      .optional("bias", &P::bias, "of the convolution; 'auto': only without a norm")
      .optional("conv_cfg", &P::conv_cfg, "type of the convolution; null: Conv2d")
      .optional("norm_cfg", &P::norm_cfg, "type of the norm; null: none")
      .optional("act_cfg", &P::act_cfg, "type of the activation; null: none")
      .optional("inplace", &P::inplace, "the activation overwrites its input")
      .optional("with_spectral_norm", &P::with_spectral_norm, "must be false")
      .optional("padding_mode", &P::padding_mode, "how padding is filled",
                one_of({"zeros", "reflect", "replicate", "circular"}))
      .optional("order", &P::order, "of convolution, norm and activation",
                one_of({"conv", "norm", "act"}))
      .accepted("efficient_conv_bn_eval", "does not change results")
      .validate([](const P& p, Problems& problems) {
        const auto* word = std::get_if<std::string>(&p.bias);
        if (word && *word != "auto") {
          problems.error("bias", text("must be true, false or 'auto', got '", *word, "'"));
        }
        if (p.with_spectral_norm) {
          problems.error("with_spectral_norm", "spectral norm is not supported");
        }
        auto sorted = p.order;
        std::sort(sorted.begin(), sorted.end());
        if (sorted != std::array<std::string, 3>{"act", "conv", "norm"}) {
          problems.error("order", "must have each of conv, norm and act once");
        }
      });
}

ConvModuleOptions ConvModuleCfg::options() const {
  ConvModuleOptions o{.kernel_size = kernel_size,
                      .dilation = dilation,
                      .groups = groups,
                      .conv_cfg = conv_cfg,
                      .norm_cfg = norm_cfg,
                      .act_cfg = act_cfg,
                      .inplace = inplace,
                      .padding_mode = padding_mode};
  if (const auto* given = std::get_if<bool>(&bias)) o.bias = *given;
  for (size_t i = 0; i < order.size(); ++i) o.order[i] = order[i].front();
  return o;
}

ConvModule::ConvModule(const ConvModuleOptions& o)
    : order_(o.order),
      padding_mode_(o.padding_mode),
      plain_(!o.conv_cfg || o.conv_cfg->type() == "Conv2d") {
  ConvOptions conv{.in_channels = o.in_channels,
                   .out_channels = o.out_channels,
                   .kernel_size = o.kernel_size,
                   .stride = o.stride,
                   .padding = o.padding,
                   .dilation = o.dilation,
                   .groups = o.groups,
                   .bias = o.bias.value_or(!o.norm_cfg)};
  if (padding_mode_ != "zeros") {
    padding_ = o.padding;
    conv.padding = 0;
  }
  conv_ = register_module("conv", build_conv(o.conv_cfg, conv));
  if (o.norm_cfg) {
    const auto at = [&](char c) { return std::find(order_.begin(), order_.end(), c); };
    norm_ = register_norm(*this, *o.norm_cfg, at('n') > at('c') ? o.out_channels : o.in_channels);
  }
  if (o.act_cfg) activate_ = register_module("activate", o.act_cfg->build(o.inplace));
  ConvModule::init_weights();
}

void ConvModule::init_weights() {
  const auto slope = activate_ ? activate_->negative_slope() : std::nullopt;
  kaiming_init(*conv_, {.a = slope.value_or(0), .leaky_relu = slope.has_value()});
  if (norm_) constant_init(*norm_, 1, 0);
}

torch::Tensor ConvModule::steps_from(size_t place, torch::Tensor x) {
  for (; place < order_.size(); ++place) {
    const char step = order_[place];
    if (step == 'c') {
      x = conv_->forward(pad2d(x, padding_.w, padding_.w, padding_.h, padding_.h, padding_mode_));
    } else if (step == 'n') {
      if (!norm_) continue;
      const bool then_relu = place + 1 < order_.size() && order_[place + 1] == 'a' && activate_ &&
                             activate_->is_relu();
      x = then_relu ? norm_->forward_relu(x) : norm_->forward(x);
      if (then_relu) ++place;
    } else if (activate_) {
      x = activate_->forward(x);
    }
  }
  return x;
}

torch::Tensor ConvModule::forward(const torch::Tensor& x) { return steps_from(0, x); }

bool ConvModule::is_pointwise() const {
  return plain_ && conv_->options.is_pointwise() && padding_ == Size2(0);
}

torch::Tensor ConvModule::forward_resized(const std::vector<torch::Tensor>& maps, Size2 size,
                                          bool align_corners, const std::string& mode) {
  if (order_[0] != 'c' || !is_pointwise()) {
    std::vector<torch::Tensor> resized;
    for (const auto& map : maps) resized.push_back(resize(map, size, align_corners, mode));
    return forward(joined_maps(resized));
  }
  torch::Tensor sum;
  int64_t first = 0;
  for (const auto& map : maps) {
    const auto weight = conv_->weight.narrow(1, first, map.size(1));
    first += map.size(1);
    const auto bias = sum.defined() ? torch::Tensor() : conv_->bias;  // once
    const Size2 own = map_size(map);
    const bool smaller = own.h * own.w < size.h * size.w;
    auto part = smaller ? resize(conv2d(map, weight, bias), size, align_corners, mode)
                        : conv2d(resize(map, size, align_corners, mode), weight, bias);
    sum = sum.defined() ? sum.add_(part) : part;
  }
  return steps_from(1, sum);
}

DepthwiseSeparableConvModule::DepthwiseSeparableConvModule(const DepthwiseSeparableOptions& o) {
  ConvModuleOptions depthwise = o;
  depthwise.out_channels = o.in_channels;
  depthwise.groups = o.in_channels;
  depthwise.norm_cfg = o.dw_norm_cfg.value_or(o.norm_cfg);
  depthwise.act_cfg = o.dw_act_cfg.value_or(o.act_cfg);
  depthwise_ = register_module("depthwise_conv", std::make_shared<ConvModule>(depthwise));
  ConvModuleOptions pointwise = o;
  pointwise.kernel_size = 1;
  pointwise.stride = 1;
  pointwise.padding = 0;
  pointwise.dilation = 1;
  pointwise.norm_cfg = o.pw_norm_cfg.value_or(o.norm_cfg);
  pointwise.act_cfg = o.pw_act_cfg.value_or(o.act_cfg);
  pointwise_ = register_module("pointwise_conv", std::make_shared<ConvModule>(pointwise));
}

torch::Tensor DepthwiseSeparableConvModule::forward(const torch::Tensor& x) {
  return pointwise_->forward(depthwise_->forward(x));
}

}  // namespace seg
