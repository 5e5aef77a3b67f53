#include "segcore/models/nn/layer_norm2d.hpp"

#include "segcore/memory/recomputation.hpp"
#include "segcore/ops/layer_norm/layer_norm.hpp"
#include "segcore/torch.hpp"

namespace seg {

Schema<LayerNorm2d::Params> LayerNorm2d::schema() {
  return Schema<Params>("Layer normalisation over the channels of each pixel.")
      .source("ConvNeXt, Liu et al. 2022, arXiv:2201.03545")
      .optional("eps", &Params::eps, "added to the variance", above(0))
      .optional("elementwise_affine", &Params::elementwise_affine,
                "learn a scale and a shift for each channel")
      .optional("requires_grad", &Params::requires_grad, "train scale and shift");
}

LayerNorm2d::LayerNorm2d(const Params& p, int64_t channels) : eps_(p.eps), channels_(channels) {
  if (p.elementwise_affine) register_affine(channels, p.requires_grad);
}

torch::Tensor LayerNorm2d::forward(const torch::Tensor& x) {
  return recomputable({x, weight, bias}, [c = channels_, eps = eps_](const auto& in) {
    return layer_norm(in[0].permute({0, 2, 3, 1}), c, in[1], in[2], eps)
        .permute({0, 3, 1, 2})
        .contiguous();
  });
}

torch::Tensor LayerNorm2d::forward_channels_last(const torch::Tensor& x) const {
  return recomputable({x, weight, bias}, [c = channels_, eps = eps_](const auto& in) {
    return layer_norm(in[0], c, in[1], in[2], eps);
  });
}

SEG_REGISTER_AS(Norm, LayerNorm2d, "LN2d");
SEG_REGISTER(Norm, LayerNorm2d);

}  // namespace seg
