/// Convolution, norm and activation as one block.
#pragma once
#include <array>

#include "segcore/models/nn/activation.hpp"
#include "segcore/models/nn/conv.hpp"
#include "segcore/models/nn/norm.hpp"
#include "segcore/models/nn/resize.hpp"

namespace seg {

struct ConvModuleOptions {
  int64_t in_channels = 0, out_channels = 0;
  Size2 kernel_size = 1, stride = 1, padding = 0, dilation = 1;
  int64_t groups = 1;
  std::optional<bool> bias;  ///< empty: only without a norm
  ConvCfg conv_cfg;
  NormCfg norm_cfg;
  ActCfg act_cfg = relu_cfg();
  bool inplace = true;
  std::string padding_mode = "zeros";  ///< "zeros", "reflect", "replicate" or "circular"
  /// Any order of 'c'onvolution, 'n'orm and 'a'ctivation.
  std::array<char, 3> order{'c', 'n', 'a'};
};

/// Options of a ConvModule inside a larger module, with mmcv's names. The larger module sets
/// widths, stride and padding.
struct ConvModuleCfg {
  Size2 kernel_size = 1, dilation = 1;
  int64_t groups = 1;
  std::variant<bool, std::string> bias = std::string("auto");
  ConvCfg conv_cfg;
  NormCfg norm_cfg;
  ActCfg act_cfg = relu_cfg();
  bool inplace = true;
  bool with_spectral_norm = false;
  std::string padding_mode = "zeros";
  std::array<std::string, 3> order{"conv", "norm", "act"};
  static Schema<ConvModuleCfg> schema();
  ConvModuleOptions options() const;
};

/// mmcv's ConvModule: children `conv`, the norm under its abbreviation (`bn`), `activate`.
class ConvModule final : public Layer {
 public:
  explicit ConvModule(const ConvModuleOptions& options);
  torch::Tensor forward(const torch::Tensor& x) override;
  /// As of maps that are resized to one size and joined: a plain 1x1 convolution and resizing may
  /// change places, so that each smaller map is convolved at its own size, and nothing is joined.
  /// Other convolutions take the joined map.
  torch::Tensor forward_resized(const std::vector<torch::Tensor>& maps, Size2 size,
                                bool align_corners, const std::string& mode = "bilinear");
  /// Kaiming's normal by the fan out; norms to 1 and 0.
  void init_weights() override;
  const std::shared_ptr<Conv2d>& conv() const { return conv_; }
  const std::shared_ptr<Norm>& norm() const { return norm_; }  ///< may be null

 private:
  /// The steps of `order` behind this place. \param x  its input there.
  torch::Tensor steps_from(size_t place, torch::Tensor x);
  bool is_pointwise() const;

  std::array<char, 3> order_;
  std::string padding_mode_;
  Size2 padding_ = 0;  ///< applied here instead of by the convolution
  bool plain_ = true;  ///< the convolution is a Conv2d
  std::shared_ptr<Conv2d> conv_;
  std::shared_ptr<Norm> norm_;
  std::shared_ptr<Activation> activate_;
};

struct DepthwiseSeparableOptions : ConvModuleOptions {
  /// Empty: as norm_cfg and act_cfg.
  std::optional<NormCfg> dw_norm_cfg, pw_norm_cfg;
  std::optional<ActCfg> dw_act_cfg, pw_act_cfg;
};

/// A convolution of each channel alone, then one of 1x1: children `depthwise_conv`,
/// `pointwise_conv`.
///
/// MobileNets, Howard et al. 2017, arXiv:1704.04861.
class DepthwiseSeparableConvModule final : public Layer {
 public:
  explicit DepthwiseSeparableConvModule(const DepthwiseSeparableOptions& options);
  torch::Tensor forward(const torch::Tensor& x) override;

 private:
  std::shared_ptr<ConvModule> depthwise_, pointwise_;
};

}  // namespace seg
