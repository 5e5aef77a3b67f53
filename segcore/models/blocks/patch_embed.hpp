/// Sequences of patches from images and maps.
#pragma once
#include <utility>

#include "segcore/models/nn/conv.hpp"
#include "segcore/models/nn/norm.hpp"

namespace seg {

/// Pads as far as a kernel needs to see every pixel.
struct AdaptivePadding {
  Size2 kernel_size = 1, stride = 1, dilation = 1;
  bool corner = true;  ///< at the bottom right; else all around ("same")
  Size2 missing(Size2 size) const;
  torch::Tensor operator()(const torch::Tensor& x) const;
};

/// [N, C, H, W] -> [N, H * W, C]
torch::Tensor nchw_to_nlc(const torch::Tensor& x);
/// [N, H * W, C] -> [N, C, H, W], a view in channels-last order where the tokens are contiguous.
torch::Tensor nlc_to_nchw(const torch::Tensor& x, Size2 size);

struct PatchEmbedOptions {
  int64_t in_channels = 3, embed_dims = 768;
  Size2 kernel_size = 16;
  std::optional<Size2> stride;  ///< empty: the kernel's size
  /// Fixed padding, or "corner" or "same" for as much as is needed.
  std::variant<Size2, std::string> padding = std::string("corner");
  Size2 dilation = 1;
  bool bias = true;
  ConvCfg conv_cfg;
  NormCfg norm_cfg;
};

/// A convolution that turns each patch into a token: children `projection`, `norm`.
class PatchEmbed final : public BaseModule {
 public:
  explicit PatchEmbed(const PatchEmbedOptions& options);
  /// \return tokens [N, h * w, embed_dims], and {h, w}.
  std::pair<torch::Tensor, Size2> forward(const torch::Tensor& x);
  /// {h, w} for images of this size.
  Size2 output_size(Size2 input) const;

 private:
  std::optional<AdaptivePadding> adaptive_;
  std::shared_ptr<Conv2d> projection_;
  std::shared_ptr<Norm> norm_;
};

struct PatchMergingOptions {
  int64_t in_channels = 0, out_channels = 0;
  Size2 kernel_size = 2;
  std::optional<Size2> stride;
  std::variant<Size2, std::string> padding = std::string("corner");
  Size2 dilation = 1;
  bool bias = false;
  NormCfg norm_cfg = norm_cfg_of("{type: LN}");
};

/// Joins neighbouring tokens to one (Swin): children `norm`, `reduction`.
class PatchMerging final : public BaseModule {
 public:
  explicit PatchMerging(const PatchMergingOptions& options);
  /// tokens [N, h * w, in_channels] of a map of {h, w}.
  std::pair<torch::Tensor, Size2> forward(const torch::Tensor& tokens, Size2 size);

 private:
  std::optional<AdaptivePadding> adaptive_;
  Size2 kernel_, stride_, padding_, dilation_;
  std::shared_ptr<Norm> norm_;
  std::shared_ptr<Linear> reduction_;
};

}  // namespace seg
