#include "segcore/models/nn/deform_conv.hpp"

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

Schema<ModulatedDeformConvParams> ModulatedDeformConv2d::schema() {
  return Schema<Params>("Convolution with learned offsets and factors of its taps.")
      .source("Zhu et al. 2018, arXiv:1811.11168")
      .optional("deform_groups", &Params::deform_groups, "parts of the channels with offsets apart",
                at_least(1));
}

ModulatedDeformConv2d::ModulatedDeformConv2d(const Params& p, const ConvOptions& o)
    : Conv2d(o), deform_groups_(p.deform_groups) {
  if (o.groups != 1) throw OptionError("type", "DCNv2 has no grouped convolutions");
  if (o.in_channels % deform_groups_ != 0) {
    throw OptionError("deform_groups", text("must divide the ", o.in_channels, " channels"));
  }
  auto offset = o;
  offset.out_channels = deform_groups_ * 3 * o.kernel_size.h * o.kernel_size.w;
  offset.bias = true;
  conv_offset_ = register_module("conv_offset", std::make_shared<Conv2d>(offset));
  constant_init(*conv_offset_, 0);
  if (bias.defined()) torch::nn::init::zeros_(bias);
}

void ModulatedDeformConv2d::init_weights() {
  Conv2d::init_weights();
  constant_init(*conv_offset_, 0);
}

torch::Tensor ModulatedDeformConv2d::forward(const torch::Tensor& x) {
  const auto parts = conv_offset_->forward(x).chunk(3, 1);
  const auto taps = deformed_taps(x, at::cat({parts[0], parts[1]}, 1), at::sigmoid(parts[2]),
                                  options, deform_groups_);
  const auto columns = taps.flatten(1, 2).flatten(2);  // [N, C * taps, H' * W']
  auto out =
      at::matmul(weight.flatten(1), columns).view({x.size(0), -1, taps.size(3), taps.size(4)});
  return bias.defined() ? out + bias.view({1, -1, 1, 1}) : out;
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
  const auto scaled = sampled * factors.to(type).view({parts, 1, taps, height, width});
  return scaled.view({images, -1, taps, height, width}).to(x.scalar_type());
}

SEG_REGISTER_AS(Conv2d, ModulatedDeformConv2d, "DCNv2");

}  // namespace seg
