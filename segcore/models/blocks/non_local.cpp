#include "segcore/models/blocks/non_local.hpp"

#include <cmath>

#include "segcore/ops/attention/attention.hpp"
#include "segcore/torch.hpp"

namespace seg {

Schema<NonLocal2d::Params> NonLocal2d::schema() {
  return Schema<Params>("Attention of every position to every other.")
      .source("Wang et al. 2017, arXiv:1711.07971")
      .include(PluginLayer::base_schema())
      .optional("reduction", &Params::reduction, "divisor of the width inside", at_least(1))
      .optional("use_scale", &Params::use_scale, "divide scores by the root of the width")
      .optional("conv_cfg", &Params::conv_cfg, "type of the convolutions")
      .optional("norm_cfg", &Params::norm_cfg, "norm of the last convolution; null: none")
      .optional("mode", &Params::mode, "how positions are compared",
                one_of({"gaussian", "embedded_gaussian", "dot_product", "concatenation"}))
      .optional("sub_sample", &Params::sub_sample, "pool keys and values by 2")
      .optional("zeros_init", &Params::zeros_init, "start as the identity");
}

NonLocal2d::NonLocal2d(int64_t in_channels, const NonLocalOptions& options)
    : o_(options), inner_(std::max<int64_t>(in_channels / options.reduction, 1)) {
  const auto conv = [&](int64_t in, int64_t out, const NormCfg& norm) {
    return std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = in,
                                                          .out_channels = out,
                                                          .conv_cfg = o_.conv_cfg,
                                                          .norm_cfg = norm,
                                                          .act_cfg = std::nullopt});
  };
  const auto pooled = [&](std::shared_ptr<Layer> layer) -> std::shared_ptr<Layer> {
    if (!o_.sub_sample) return layer;
    auto pool = std::make_shared<Lambda>([](const torch::Tensor& x) {
      return at::max_pool2d(x, {2, 2});
    });
    if (!layer) return pool;
    return std::make_shared<Sequential>(std::initializer_list<std::shared_ptr<Layer>>{layer, pool});
  };
  const bool embeds = o_.mode != "gaussian";
  g_ = register_module("g", pooled(conv(in_channels, inner_, {})));
  conv_out_ = register_module("conv_out", conv(inner_, in_channels, o_.norm_cfg));
  if (embeds) theta_ = register_module("theta", conv(in_channels, inner_, {}));
  phi_ = pooled(embeds ? std::shared_ptr<Layer>(conv(in_channels, inner_, {})) : nullptr);
  if (phi_) register_module("phi", phi_);
  if (o_.mode == "concatenation") {
    concat_project_ = register_module(
        "concat_project", std::make_shared<ConvModule>(ConvModuleOptions{
                              .in_channels = 2 * inner_, .out_channels = 1, .bias = false}));
  }
  NonLocal2d::init_weights();
}

void NonLocal2d::init_weights() {
  PluginLayer::init_weights();
  for (Layer* layer : {g_.get(), static_cast<Layer*>(theta_.get()), phi_.get()}) {
    if (!layer) continue;
    for_each_module(*layer, [](torch::nn::Module& m) {
      if (auto* conv = dynamic_cast<Conv2d*>(&m)) normal_init(*conv, 0, 0.01);
    });
  }
  torch::nn::Module* last = conv_out_->conv().get();
  if (conv_out_->norm()) last = conv_out_->norm().get();
  if (o_.zeros_init) {
    constant_init(*last, 0);
  } else {
    normal_init(*last, 0, 0.01);
  }
}

NonLocal2d::Parts NonLocal2d::parts(const torch::Tensor& x) {
  Parts out;
  out.value = g_->forward(x).flatten(2).transpose(1, 2);
  out.theta = (theta_ ? theta_->forward(x) : x).flatten(2);
  out.phi = (phi_ ? phi_->forward(x) : x).flatten(2);
  if (o_.mode == "concatenation") {
    out.theta = out.theta.unsqueeze(3);  // [N, inner, H*W, 1]
    out.phi = out.phi.unsqueeze(2);      // [N, inner, 1, h*w]
  } else {
    out.theta = out.theta.transpose(1, 2);  // [N, H*W, inner]
  }
  return out;
}

torch::Tensor NonLocal2d::plain_weights(const Parts& p) {
  if (o_.mode == "dot_product") {
    return at::matmul(p.theta, p.phi) / static_cast<double>(p.phi.size(2));
  }
  const int64_t from = p.theta.size(2), to = p.phi.size(3);
  const auto pairs =
      at::cat({p.theta.expand({-1, -1, -1, to}), p.phi.expand({-1, -1, from, -1})}, 1);
  return concat_project_->forward(pairs).squeeze(1) / static_cast<double>(to);
}

torch::Tensor NonLocal2d::attend(const Parts& p) {
  if (o_.mode == "dot_product" || o_.mode == "concatenation") {
    return at::matmul(plain_weights(p), p.value).transpose(1, 2);
  }
  double divisor = 1;
  if (o_.mode == "embedded_gaussian") {
    divisor = temperature_;
    if (o_.use_scale) divisor *= std::sqrt(static_cast<double>(p.theta.size(2)));
  }
  return single_head_attention(p.theta, p.phi.transpose(1, 2), p.value, 1 / divisor)
      .transpose(1, 2);
}

torch::Tensor NonLocal2d::forward(const torch::Tensor& x) {
  const auto y = attend(parts(x));
  return x + conv_out_->forward(y.reshape({x.size(0), inner_, x.size(2), x.size(3)}));
}

DisentangledNonLocal2d::DisentangledNonLocal2d(int64_t in_channels, const NonLocalOptions& options,
                                               double temperature)
    : NonLocal2d(in_channels, options) {
  temperature_ = temperature;
  conv_mask_ = register_module("conv_mask", std::make_shared<Conv2d>(ConvOptions{
                                                .in_channels = in_channels, .out_channels = 1}));
}

torch::Tensor DisentangledNonLocal2d::forward(const torch::Tensor& x) {
  Parts p = parts(x);
  p.theta = p.theta - p.theta.mean(-2, true);
  p.phi = p.phi - p.phi.mean(-1, true);
  const auto y = attend(p);
  const auto unary = conv_mask_->forward(x).flatten(2).softmax(-1);  // [N, 1, H*W]
  const auto common = at::matmul(unary, p.value).transpose(1, 2);    // [N, inner, 1]
  return x + conv_out_->forward((y + common).reshape({x.size(0), inner_, x.size(2), x.size(3)}));
}

SEG_REGISTER(PluginLayer, NonLocal2d);

}  // namespace seg
