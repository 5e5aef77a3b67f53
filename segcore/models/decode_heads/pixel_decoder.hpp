/// The `pixel_decoder` of MaskFormer and Mask2Former, which makes the maps for their queries.
#pragma once
#include "segcore/models/backbone.hpp"
#include "segcore/models/nn/conv_module.hpp"

namespace seg {

struct PixelDecoderInputs {
  std::vector<FeatureInfo> features;
  int64_t feat_channels = 0;
  int64_t out_channels = 0;
};

struct DecodedPixels {
  torch::Tensor mask_feature;           ///< [N, out_channels, H, W], the finest
  std::vector<torch::Tensor> memories;  ///< maps that queries attend to, coarsest first
};

class MaskPixelDecoder : public BaseModule {
 public:
  using BaseModule::BaseModule;
  /// \param padding  bool [N, h, w], of the size of the last map, true where it shows padding;
  ///                 undefined: nowhere.
  virtual DecodedPixels forward(const std::vector<torch::Tensor>& features,
                                const torch::Tensor& padding) = 0;
  /// Whether the memory is the backbone's own last map, whose width may have to change.
  virtual bool passes_backbone_memory() const { return false; }
};

template <>
struct Category<MaskPixelDecoder> {
  static constexpr std::string_view name = "pixel decoder";
  using Signature = std::shared_ptr<MaskPixelDecoder>(const PixelDecoderInputs& inputs);
};

/// A convolution of a pixel decoder, padded to keep the size of the map.
std::shared_ptr<ConvModule> pixel_conv(int64_t in, int64_t out, int64_t kernel_size,
                                       const NormCfg& norm, const ActCfg& act,
                                       std::optional<bool> bias = {});

}  // namespace seg
