/// What makes maps for queries: the `pixel_decoder` of MaskFormer and Mask2Former.
#pragma once
#include "segcore/models/backbone.hpp"

namespace seg {

struct PixelDecoderInputs {
  std::vector<FeatureInfo> features;
  int64_t feat_channels = 0;
  int64_t out_channels = 0;
};

struct DecodedPixels {
  torch::Tensor mask_feature;           ///< [N, out_channels, H, W], the finest
  std::vector<torch::Tensor> memories;  ///< what queries attend to, coarsest first
};

class MaskPixelDecoder : public BaseModule {
 public:
  using BaseModule::BaseModule;
  /// \param padding  bool [N, h, w] of the last map's size, true where it shows padding; undefined:
  ///                 nowhere.
  virtual DecodedPixels forward(const std::vector<torch::Tensor>& features,
                                const torch::Tensor& padding) = 0;
  /// The memory is the backbone's own last map, so its width may have to change.
  virtual bool passes_backbone_memory() const { return false; }
};

template <>
struct Category<MaskPixelDecoder> {
  static constexpr std::string_view name = "pixel decoder";
  using Signature = std::shared_ptr<MaskPixelDecoder>(const PixelDecoderInputs& inputs);
};

}  // namespace seg
