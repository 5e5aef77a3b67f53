#include "segcore/models/nn/conv.hpp"

#include <array>
#include <cmath>

#include "segcore/models/weights/init.hpp"
#include "segcore/ops/conv2d/conv2d.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

torch::Tensor conv_of(const Conv2d& layer, const torch::Tensor& x, Size2 padding) {
  const auto& o = layer.options;
  const std::array<int64_t, 2> stride{o.stride.h, o.stride.w};
  const std::array<int64_t, 2> pad{padding.h, padding.w};
  const std::array<int64_t, 2> dilation{o.dilation.h, o.dilation.w};
  return conv2d(x, layer.weight, layer.bias, stride, pad, dilation, o.groups);
}

}  // namespace

Schema<NoParams> Conv2d::schema() { return Schema<NoParams>("Two-dimensional convolution."); }

Conv2d::Conv2d(ConvOptions o, int64_t spatial_dims) : options(std::move(o)) {
  SEG_CHECK(options.groups > 0 && options.in_channels % options.groups == 0 &&
                options.out_channels % options.groups == 0,
            "a convolution from ", options.in_channels, " to ", options.out_channels,
            " channels has no ", options.groups, " groups");
  std::vector<int64_t> shape{options.out_channels, options.in_channels / options.groups,
                             options.kernel_size.h};
  if (spatial_dims == 2) shape.push_back(options.kernel_size.w);
  weight = register_parameter("weight", torch::empty(shape));
  if (options.bias) bias = register_parameter("bias", torch::empty({options.out_channels}));
  reset_parameters();
}

void Conv2d::reset_parameters() {
  torch::nn::init::kaiming_uniform_(weight, std::sqrt(5.0));
  if (bias.defined()) {
    const double fan_in = static_cast<double>(weight.numel() / weight.size(0));
    torch::nn::init::uniform_(bias, -1 / std::sqrt(fan_in), 1 / std::sqrt(fan_in));
  }
}

torch::Tensor Conv2d::forward(const torch::Tensor& x) {
  const auto& o = options;
  if (o.padding_mode != "zeros" && (o.padding.h > 0 || o.padding.w > 0)) {
    const Size2 p = o.padding;
    return conv_of(*this, pad2d(x, p.w, p.w, p.h, p.h, o.padding_mode), 0);
  }
  return conv_of(*this, x, o.padding);
}

SEG_REGISTER(Conv2d, Conv2d);
SEG_REGISTER_AS(Conv2d, Conv2d, "Conv");

/// Over sequences [N, C, L].
class Conv1d final : public Conv2d {
 public:
  Conv1d(const Params&, const ConvOptions& o) : Conv2d(o, 1) {}
  std::vector<std::string> python_names() const override { return {"Conv1d", "_ConvNd"}; }
  torch::Tensor forward(const torch::Tensor& x) override {
    return at::conv1d(x, weight, bias, options.stride.h, options.padding.h, options.dilation.h,
                      options.groups);
  }
};
SEG_REGISTER(Conv2d, Conv1d);

/// Pads as TensorFlow's "same": as much as the kernel needs, the odd pixel right and below.
class Conv2dAdaptivePadding final : public Conv2d {
 public:
  Conv2dAdaptivePadding(const Params& p, const ConvOptions& o) : Conv2d(p, o) {}
  std::vector<std::string> python_names() const override {
    return {"Conv2dAdaptivePadding", "Conv2d"};
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    const auto& o = options;
    const auto missing = [](int64_t length, int64_t kernel, int64_t stride, int64_t dilation) {
      const int64_t out = (length + stride - 1) / stride;
      return std::max<int64_t>((out - 1) * stride + (kernel - 1) * dilation + 1 - length, 0);
    };
    const int64_t h = missing(x.size(-2), o.kernel_size.h, o.stride.h, o.dilation.h);
    const int64_t w = missing(x.size(-1), o.kernel_size.w, o.stride.w, o.dilation.w);
    return conv_of(*this, pad2d(x, w / 2, w - w / 2, h / 2, h - h / 2), 0);
  }
};
SEG_REGISTER(Conv2d, Conv2dAdaptivePadding);

std::shared_ptr<Conv2d> build_conv(const ConvCfg& cfg, const ConvOptions& options) {
  return cfg ? cfg->build(options) : std::make_shared<Conv2d>(options);
}

void group_fan_out_init(Conv2d& conv) {
  const ConvOptions& o = conv.options;
  const int64_t fan_out = o.kernel_size.h * o.kernel_size.w * o.out_channels / o.groups;
  normal_init(conv, 0, std::sqrt(2.0 / static_cast<double>(fan_out)));
}

torch::Tensor pad2d(const torch::Tensor& x, int64_t left, int64_t right, int64_t top,
                    int64_t bottom, const std::string& mode, double value) {
  if (left == 0 && right == 0 && top == 0 && bottom == 0) return x;
  const std::vector<int64_t> sides{left, right, top, bottom};
  if (mode == "zeros" || mode == "zero") return at::constant_pad_nd(x, sides, value);
  return at::pad(x, sides, mode == "circular" || mode == "reflect" ? mode : "replicate");
}

}  // namespace seg
