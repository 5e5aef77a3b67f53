#include "segcore/models/nn/deform_conv.hpp"

#include <cmath>

#include "segcore/models/weights/init.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

/// Where the taps of a kernel are on one axis without offsets: [kernel, outputs].
torch::Tensor tap_positions(int64_t outputs, int64_t kernel, int64_t stride, int64_t padding,
                            int64_t dilation, const at::TensorOptions& options) {
  const auto out = at::arange(outputs, options) * stride - padding;
  const auto taps = at::arange(kernel, options) * dilation;
  return taps.unsqueeze(1) + out.unsqueeze(0);
}

}  // namespace

Schema<DeformConvParams> DeformConv2d::schema_of(const std::string& summary,
                                                 const std::string& source) {
  return Schema<Params>(summary)
      .source(source)
      .optional("deform_groups", &Params::deform_groups, "parts of the channels with offsets apart",
                at_least(1))
      .accepted("im2col_step", "has no effect: how many images mmcv's operator takes at a time");
}

Schema<DeformConvParams> DeformConv2d::schema() {
  return schema_of("Convolution with learned offsets of its taps.",
                   "Dai et al. 2017, arXiv:1703.06211");
}

DeformConv2d::DeformConv2d(const Params& p, const ConvOptions& o) : DeformConv2d(p, o, 2) {
  if (o.bias) throw OptionError("type", "DCN has no bias: it needs a norm behind it, as in mmcv");
  torch::nn::init::kaiming_uniform_(weight, 0, torch::kFanIn, torch::kReLU);
}

DeformConv2d::DeformConv2d(const Params& p, const ConvOptions& o, int64_t numbers)
    : Conv2d(o), deform_groups_(p.deform_groups) {
  if (o.in_channels % deform_groups_ != 0) {
    throw OptionError("deform_groups", text("must divide the ", o.in_channels, " channels"));
  }
  auto offset = o;
  offset.out_channels = deform_groups_ * numbers * o.kernel_size.h * o.kernel_size.w;
  offset.groups = 1;
  offset.bias = true;
  conv_offset_ = register_module("conv_offset", std::make_shared<Conv2d>(offset));
  constant_init(*conv_offset_, 0);
}

void DeformConv2d::init_weights() {
  Conv2d::init_weights();
  constant_init(*conv_offset_, 0);
}

torch::Tensor DeformConv2d::convolve(const torch::Tensor& x, const torch::Tensor& offsets,
                                     const torch::Tensor& factors) {
  const auto taps = deformed_taps(x, offsets, factors, options, deform_groups_);
  const int64_t images = x.size(0), groups = options.groups;
  const auto columns = taps.reshape({images, groups, taps.size(1) / groups * taps.size(2),
                                     -1});  // [N, groups, C * taps, H' * W']
  const auto rows = weight.view({groups, options.out_channels / groups, -1});
  const auto out = at::matmul(rows, columns).view({images, -1, taps.size(3), taps.size(4)});
  return bias.defined() ? out + bias.view({1, -1, 1, 1}) : out;
}

torch::Tensor DeformConv2d::forward(const torch::Tensor& x) {
  return convolve(x, conv_offset_->forward(x), {});
}

Schema<DeformConvParams> ModulatedDeformConv2d::schema() {
  return schema_of("Convolution with learned offsets and factors of its taps.",
                   "Zhu et al. 2018, arXiv:1811.11168");
}

ModulatedDeformConv2d::ModulatedDeformConv2d(const Params& p, const ConvOptions& o)
    : DeformConv2d(p, o, 3) {
  // As mmcv, which takes the inputs of all groups into account.
  const auto inputs = o.in_channels * o.kernel_size.h * o.kernel_size.w;
  const double bound = 1 / std::sqrt(static_cast<double>(inputs));
  torch::nn::init::uniform_(weight, -bound, bound);
  if (bias.defined()) torch::nn::init::zeros_(bias);
}

torch::Tensor ModulatedDeformConv2d::forward(const torch::Tensor& x) {
  const auto parts = conv_offset_->forward(x).chunk(3, 1);
  return convolve(x, at::cat({parts[0], parts[1]}, 1), at::sigmoid(parts[2]));
}

torch::Tensor deformed_taps(const torch::Tensor& x, const torch::Tensor& offsets,
                            const torch::Tensor& factors, const ConvOptions& conv,
                            int64_t deform_groups) {
  const int64_t images = x.size(0), height = offsets.size(2), width = offsets.size(3);
  const int64_t kernel_h = conv.kernel_size.h, kernel_w = conv.kernel_size.w;
  const int64_t taps = kernel_h * kernel_w, parts = images * deform_groups;
  // Half precision has too few digits for places in a map.
  const auto type = offsets.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const auto moved = offsets.to(type).view({parts, kernel_h, kernel_w, 2, height, width});
  const auto options = moved.options();
  const auto rows =
      tap_positions(height, kernel_h, conv.stride.h, conv.padding.h, conv.dilation.h, options)
          .view({kernel_h, 1, height, 1});
  const auto columns =
      tap_positions(width, kernel_w, conv.stride.w, conv.padding.w, conv.dilation.w, options)
          .view({1, kernel_w, 1, width});
  const auto grid_of = [](const torch::Tensor& pixels, int64_t length) {
    return (2 * pixels + 1) / static_cast<double>(length) - 1;
  };
  const auto grid = at::stack({grid_of(moved.select(3, 1) + columns, x.size(3)),
                               grid_of(moved.select(3, 0) + rows, x.size(2))},
                              -1)
                        .view({parts, taps * height, width, 2});
  const auto maps = x.to(type).reshape({parts, -1, x.size(2), x.size(3)});
  const auto sampled = at::grid_sampler(maps, grid, /*bilinear=*/0, /*zeros=*/0, false)
                           .view({parts, -1, taps, height, width});
  const auto scaled = factors.defined()
                          ? sampled * factors.to(type).view({parts, 1, taps, height, width})
                          : sampled;
  return scaled.view({images, -1, taps, height, width}).to(x.scalar_type());
}

SEG_REGISTER_AS(Conv2d, DeformConv2d, "DCN");
SEG_REGISTER_AS(Conv2d, ModulatedDeformConv2d, "DCNv2");

}  // namespace seg
