#include "segcore/models/blocks/positional_encoding.hpp"

#include "segcore/precision.hpp"
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

namespace {

/// Sines and cosines of positions [...] in turn: [..., num_feats].
at::Tensor sine_waves(const at::Tensor& position, int64_t num_feats, double temperature) {
  const auto waves =
      at::pow(temperature, 2 * at::floor(at::arange(num_feats, position.options()) / 2) /
                               static_cast<double>(num_feats));
  const auto angle = position.unsqueeze(-1) / waves;
  return at::stack({angle.slice(-1, 0, {}, 2).sin(), angle.slice(-1, 1, {}, 2).cos()}, -1)
      .flatten(-2);
}

}  // namespace

at::Tensor SinePositionalEncoding::operator()(const at::Tensor& map,
                                              const at::Tensor& padding) const {
  const int64_t height = map.size(2), width = map.size(3);
  const auto wide = map.options().dtype(wide_type(map));
  const auto waves = [&](const at::Tensor& count, const at::Tensor& last) {
    const auto position = normalize ? (count + offset) / (last + eps) * scale : count;
    return sine_waves(position, num_feats, temperature);
  };
  if (padding.defined()) {
    const auto valid = padding.logical_not().to(wide);
    const auto encode = [&](int64_t dim) {
      const auto count = valid.cumsum(dim);  // [N, h, w]
      return waves(count, count.narrow(dim, count.size(dim) - 1, 1));
    };
    return at::cat({encode(1), encode(2)}, 3).flatten(1, 2);
  }
  const auto encode = [&](int64_t side) {
    const auto count = at::arange(1, side + 1, wide);
    return waves(count, count.narrow(0, side - 1, 1));  // [side, num_feats]
  };
  const auto rows = encode(height).unsqueeze(1).expand({height, width, num_feats});
  const auto columns = encode(width).unsqueeze(0).expand({height, width, num_feats});
  return at::cat({rows, columns}, 2).reshape({1, height * width, 2 * num_feats});
}

}  // namespace seg
