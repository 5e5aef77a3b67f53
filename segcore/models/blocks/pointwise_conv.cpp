#include "segcore/models/blocks/pointwise_conv.hpp"

#include "segcore/models/nn/conv.hpp"
#include "segcore/ops/linear/linear.hpp"
#include "segcore/torch.hpp"

namespace seg {

PointwiseConv::PointwiseConv(torch::nn::Module& parent, const std::string& name, bool linear,
                             int64_t in, int64_t out) {
  if (linear) {
    const auto layer = parent.register_module(name, std::make_shared<Linear>(in, out));
    weight_ = layer->weight;
    bias_ = layer->bias;
  } else {
    const auto layer = parent.register_module(
        name, std::make_shared<Conv2d>(ConvOptions{.in_channels = in, .out_channels = out}));
    weight_ = layer->weight;
    bias_ = layer->bias;
  }
}

torch::Tensor PointwiseConv::operator()(const torch::Tensor& x) const {
  return linear_rows(x, weight_.flatten(1), bias_);
}

}  // namespace seg
