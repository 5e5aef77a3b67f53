#include "segcore/models/blocks/patch_embed.hpp"

#include "segcore/torch.hpp"

namespace seg {
namespace {

int64_t conv_output(int64_t length, int64_t kernel, int64_t stride, int64_t padding,
                    int64_t dilation) {
  return (length + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1;
}

}  // namespace

Size2 AdaptivePadding::missing(Size2 size) const {
  const auto one = [](int64_t length, int64_t k, int64_t s, int64_t d) {
    const int64_t out = (length + s - 1) / s;
    return std::max<int64_t>((out - 1) * s + (k - 1) * d + 1 - length, 0);
  };
  return {one(size.h, kernel_size.h, stride.h, dilation.h),
          one(size.w, kernel_size.w, stride.w, dilation.w)};
}

torch::Tensor AdaptivePadding::operator()(const torch::Tensor& x) const {
  const Size2 pad = missing({x.size(-2), x.size(-1)});
  if (corner) return pad2d(x, 0, pad.w, 0, pad.h);
  return pad2d(x, pad.w / 2, pad.w - pad.w / 2, pad.h / 2, pad.h - pad.h / 2);
}

torch::Tensor nchw_to_nlc(const torch::Tensor& x) { return x.flatten(2).transpose(1, 2); }

torch::Tensor nlc_to_nchw(const torch::Tensor& x, Size2 size) {
  return x.transpose(1, 2).reshape({x.size(0), x.size(2), size.h, size.w});
}

PatchEmbed::PatchEmbed(const PatchEmbedOptions& o) {
  ConvOptions conv{.in_channels = o.in_channels,
                   .out_channels = o.embed_dims,
                   .kernel_size = o.kernel_size,
                   .stride = o.stride.value_or(o.kernel_size),
                   .dilation = o.dilation,
                   .bias = o.bias};
  if (const auto* mode = std::get_if<std::string>(&o.padding)) {
    adaptive_ = AdaptivePadding{conv.kernel_size, conv.stride, conv.dilation, *mode == "corner"};
  } else {
    conv.padding = std::get<Size2>(o.padding);
  }
  projection_ = register_module("projection", build_conv(o.conv_cfg, conv));
  if (o.norm_cfg) norm_ = register_module("norm", o.norm_cfg->build(o.embed_dims));
}

std::pair<torch::Tensor, Size2> PatchEmbed::forward(const torch::Tensor& x) {
  auto out = projection_->forward(adaptive_ ? (*adaptive_)(x) : x);  // [N, embed_dims, h, w]
  const Size2 size{out.size(2), out.size(3)};
  out = out.flatten(2).transpose(1, 2);  // [N, h * w, embed_dims]
  if (norm_) out = norm_->forward(out);
  return {out, size};
}

Size2 PatchEmbed::output_size(Size2 input) const {
  if (adaptive_) {
    const Size2 pad = adaptive_->missing(input);
    input = {input.h + pad.h, input.w + pad.w};
  }
  const auto& o = projection_->options;
  return {conv_output(input.h, o.kernel_size.h, o.stride.h, o.padding.h, o.dilation.h),
          conv_output(input.w, o.kernel_size.w, o.stride.w, o.padding.w, o.dilation.w)};
}

PatchMerging::PatchMerging(const PatchMergingOptions& o)
    : kernel_(o.kernel_size),
      stride_(o.stride.value_or(o.kernel_size)),
      padding_(0),
      dilation_(o.dilation) {
  if (const auto* mode = std::get_if<std::string>(&o.padding)) {
    adaptive_ = AdaptivePadding{kernel_, stride_, dilation_, *mode == "corner"};
  } else {
    padding_ = std::get<Size2>(o.padding);
  }
  const int64_t width = kernel_.h * kernel_.w * o.in_channels;
  if (o.norm_cfg) norm_ = register_module("norm", o.norm_cfg->build(width));
  reduction_ =
      register_module("reduction", std::make_shared<Linear>(width, o.out_channels, o.bias));
}

std::pair<torch::Tensor, Size2> PatchMerging::forward(const torch::Tensor& tokens, Size2 size) {
  SEG_CHECK(tokens.size(1) == size.h * size.w, "expected ", size.h, "x", size.w, " tokens, got ",
            tokens.size(1));
  auto x = nlc_to_nchw(tokens, size);
  if (adaptive_) x = (*adaptive_)(x);
  const Size2 out{conv_output(x.size(2), kernel_.h, stride_.h, padding_.h, dilation_.h),
                  conv_output(x.size(3), kernel_.w, stride_.w, padding_.w, dilation_.w)};
  x = at::im2col(x, {kernel_.h, kernel_.w}, {dilation_.h, dilation_.w}, {padding_.h, padding_.w},
                 {stride_.h, stride_.w});  // [N, C * kernel, h * w]
  x = x.transpose(1, 2);                   // [N, h * w, C * kernel]
  if (norm_) x = norm_->forward(x);
  return {reduction_->forward(x), out};
}

}  // namespace seg
