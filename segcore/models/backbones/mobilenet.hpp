/// The base of the MobileNets.
#pragma once
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "segcore/models/backbone.hpp"
#include "segcore/models/nn/conv_module.hpp"

namespace seg {

/// Options of every MobileNet. A MobileNet's own struct derives from it and includes schema(); it
/// changes defaults in its constructor.
struct MobileNetParams {
  ConvCfg conv_cfg;
  NormCfg norm_cfg = norm_cfg_of("{type: BN}");
  std::vector<int64_t> out_indices;
  int64_t frozen_stages = -1;
  bool norm_eval = false;
  bool with_cp = false;
  int64_t in_channels = 3;
  std::optional<std::string> pretrained;
  InitCfg init_cfg;

  /// All but out_indices and frozen_stages, whose numbers mean something else in each MobileNet.
  static Schema<MobileNetParams> schema();
};

/// Layers in a row, some of whose maps are given.
class MobileNet : public Backbone {
 public:
  std::vector<torch::Tensor> forward(const torch::Tensor& images) override;
  std::vector<FeatureInfo> features() const override { return features_; }
  void train(bool on = true) override;

 protected:
  explicit MobileNet(const MobileNetParams& p);
  /// The first convolution. Its map is one of the layers' only where add() adds it as well.
  std::shared_ptr<ConvModule> make_stem(int64_t out_channels, const ConvCfg& conv_cfg,
                                        const ActCfg& act_cfg) const;
  /// Registers the next layer, whose maps have this width and this stride to the images.
  void add(const std::string& name, std::shared_ptr<Layer> layer, int64_t channels, int64_t stride);
  /// Stops the training of the `frozen_stages`; constructors call it as well.
  virtual void freeze_stages() = 0;
  /// Stops the training of the first layers.
  void freeze_layers(int64_t count);

 private:
  MobileNetParams p_;
  std::vector<std::shared_ptr<Layer>> layers_;
  std::vector<FeatureInfo> features_;
};

/// A row of table 2 of MobileNetV2: blocks of one width, of which the first has the stride.
struct MobileNetV2Stage {
  int64_t expand_ratio, channels, blocks, stride;
};
constexpr std::array<MobileNetV2Stage, 7> kMobileNetV2Stages{{{1, 16, 1, 1},
                                                              {6, 24, 2, 2},
                                                              {6, 32, 3, 2},
                                                              {6, 64, 4, 2},
                                                              {6, 96, 3, 1},
                                                              {6, 160, 3, 2},
                                                              {6, 320, 1, 1}}};
constexpr int64_t kMobileNetV2Stem = 32;  ///< width of the first convolution

}  // namespace seg
