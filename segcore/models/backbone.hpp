/// The interface of feature extractors.
#pragma once
#include <algorithm>
#include <vector>

#include "segcore/models/layer_order.hpp"
#include "segcore/models/nn/base_module.hpp"

namespace seg {

/// What a consumer must know of a feature map: its width and its stride to the input image.
struct FeatureInfo {
  int64_t channels = 0;
  int64_t stride =
      1;  ///< 0: no map but a class token [N, channels], which belongs to the map before
  bool is_token() const { return stride == 0; }
};

/// Makes a list of feature maps from a batch of images.
class Backbone : public BaseModule {
 public:
  using BaseModule::BaseModule;
  /// \param images  float [N, bands, H, W], normalised.
  /// \return maps [N, C_i, ~H/s_i, ~W/s_i], one for each entry of features().
  virtual std::vector<torch::Tensor> forward(const torch::Tensor& images) = 0;
  virtual std::vector<FeatureInfo> features() const = 0;
  /// Which layer each parameter belongs to, for learning rates that shrink layer by layer. Without
  /// layers where the backbone has no natural order.
  virtual LayerOrder layer_order() const { return {}; }
};

/// Whether the map of a stage is among those that `out_indices` asks for.
inline bool gives_stage(const std::vector<int64_t>& out_indices, size_t stage) {
  return std::find(out_indices.begin(), out_indices.end(), static_cast<int64_t>(stage)) !=
         out_indices.end();
}

template <>
struct Category<Backbone> {
  static constexpr std::string_view name = "backbone";
  using Signature = std::shared_ptr<Backbone>();
};

}  // namespace seg
