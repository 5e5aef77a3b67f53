/// The pooling pyramids of DDRNet and PIDNet.
#pragma once
#include "segcore/models/nn/conv_module.hpp"

namespace seg {

/// How a pyramid joins its five scales.
enum class PyramidFusion {
  kInTurn,    ///< each is convolved with the sum of those before (DAPPM)
  kParallel,  ///< each is convolved with the finest alone, all at once (PAPPM)
};

/// Pools a map to five scales, joins them and adds the map: children `scales`, `processes`,
/// `compression`, `shortcut`. All convolutions follow their norm and activation.
///
/// DAPPM of DDRNet, Hong et al. 2021, arXiv:2101.06085, section 3.3; PAPPM of PIDNet, Xu et al.
/// 2022, arXiv:2206.02066, section 3.3.
class AggregationPyramid final : public Layer {
 public:
  /// \param width  of each scale.
  AggregationPyramid(int64_t in_channels, int64_t width, int64_t out_channels,
                     PyramidFusion fusion);
  torch::Tensor forward(const torch::Tensor& x) override;

 private:
  std::shared_ptr<ListOf<Layer>> scales_;
  std::shared_ptr<ListOf<ConvModule>> in_turn_;  ///< null if they are joined in parallel
  std::shared_ptr<ConvModule> parallel_;         ///< null if they are joined in turn
  std::shared_ptr<ConvModule> compression_, shortcut_;
};

}  // namespace seg
