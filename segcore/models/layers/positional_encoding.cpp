#include "segcore/models/layers/positional_encoding.hpp"

#include "segcore/torch.hpp"

namespace seg {

Schema<SinePositionalEncoding> SinePositionalEncoding::schema() {
  using P = SinePositionalEncoding;
  return Schema<P>("Positions as sines and cosines (Vaswani et al. 2017, arXiv:1706.03762).")
      .required("num_feats", &P::num_feats, "half the width given", at_least(1))
      .optional("temperature", &P::temperature, "longest wave", above(0))
      .optional("normalize", &P::normalize, "positions from 0 to `scale`")
      .optional("scale", &P::scale, "of normalised positions")
      .optional("eps", &P::eps, "added to the side", at_least(0))
      .optional("offset", &P::offset, "added to positions before they are normalised")
      .accepted("type", "there is one type")
      .accepted("init_cfg", "there are no weights");
}

at::Tensor SinePositionalEncoding::operator()(int64_t height, int64_t width,
                                              const at::TensorOptions& options) const {
  const auto wide = at::TensorOptions()
                        .device(options.device())
                        .dtype(options.dtype() == at::kDouble ? at::kDouble : at::kFloat);
  const auto waves = at::pow(
      temperature, 2 * at::floor(at::arange(num_feats, wide) / 2) / static_cast<double>(num_feats));
  const auto encode = [&](int64_t side) {
    auto position = at::arange(1, side + 1, wide);
    if (normalize) {
      position = (position + offset) / (static_cast<double>(side) + eps) * scale;
    }
    const auto angle = position.unsqueeze(1) / waves;  // [side, num_feats]
    return at::stack({angle.slice(1, 0, {}, 2).sin(), angle.slice(1, 1, {}, 2).cos()}, 2)
        .flatten(1);
  };
  const auto rows = encode(height).unsqueeze(1).expand({height, width, num_feats});
  const auto columns = encode(width).unsqueeze(0).expand({height, width, num_feats});
  return at::cat({rows, columns}, 2)
      .reshape({1, height * width, 2 * num_feats})
      .to(options.dtype());
}

}  // namespace seg
