/// Residual networks, and what ResNeXt and ResNeSt share with them.
#pragma once
#include <array>
#include <functional>
#include <string>
#include <vector>

#include "segcore/models/backbone.hpp"
#include "segcore/models/blocks/plugin.hpp"
#include "segcore/models/nn/conv.hpp"
#include "segcore/models/nn/norm.hpp"

namespace seg {

/// The option `dcn`: deformable convolutions in the place of 3x3 ones.
struct DcnCfg {
  std::string type;
  int64_t deform_groups = 1;
  bool fallback_on_stride = false;
  static Schema<DcnCfg> schema();
  ConvCfg conv() const;
};

struct ResNetParams {
  int64_t depth = 50;
  int64_t in_channels = 3;
  int64_t stem_channels = 64;
  int64_t base_channels = 64;
  int64_t num_stages = 4;
  std::vector<int64_t> strides{1, 2, 2, 2};
  std::vector<int64_t> dilations{1, 1, 1, 1};
  std::vector<int64_t> out_indices{0, 1, 2, 3};
  std::string style = "pytorch";
  bool deep_stem = false;
  bool avg_down = false;
  int64_t frozen_stages = -1;
  ConvCfg conv_cfg;
  Spec<Norm> norm_cfg = Spec<Norm>::of("{type: BN, requires_grad: true}");
  bool norm_eval = false;
  std::optional<DcnCfg> dcn;
  std::vector<bool> stage_with_dcn{false, false, false, false};
  std::optional<std::vector<PluginEntry>> plugins;
  std::optional<std::vector<int64_t>> multi_grid;
  bool contract_dilation = false;
  bool with_cp = false;
  bool zero_init_residual = true;
  std::optional<std::string> pretrained;
  InitCfg init_cfg;

  /// All options but deep_stem and avg_down, which some variants fix.
  static Schema<ResNetParams> schema(std::vector<int64_t> depths = {18, 34, 50, 101, 152});
};

/// Blocks of each stage of a network of this depth.
std::vector<int64_t> resnet_blocks(int64_t depth);

/// Options of a block of a stage.
struct ResBlockOptions {
  int64_t in_channels = 0;
  int64_t planes = 0;  ///< the block has planes * expansion output channels
  int64_t stride = 1;
  int64_t dilation = 1;
  int64_t second_dilation = 1;  ///< of the second convolution of a basic block
  bool downsample = false;      ///< the shortcut changes the shape
  bool avg_down = false;
  std::string style = "pytorch";
  bool with_cp = false;
  ConvCfg conv_cfg;
  ConvCfg dcn;  ///< of the middle convolution of a bottleneck; null: conv_cfg
  Spec<Norm> norm_cfg;
  std::vector<PluginEntry> plugins;
  bool zero_init = false;  ///< the last norm starts at zero

  const ConvCfg& middle_cfg() const { return dcn ? dcn : conv_cfg; }
};

/// The shortcut of a block that changes the shape: [average pooling,] 1x1 convolution, norm.
std::shared_ptr<Sequential> make_res_downsample(const ResBlockOptions& o, int64_t out_channels);

/// Two 3x3 convolutions.
class ResBasicBlock final : public Layer {
 public:
  static constexpr int64_t kExpansion = 1;
  explicit ResBasicBlock(const ResBlockOptions& o);
  torch::Tensor forward(const torch::Tensor& x) override;
  void init_weights() override;

 private:
  bool with_cp_, zero_init_;
  std::shared_ptr<Conv2d> conv1_, conv2_;
  std::shared_ptr<Norm> norm1_, norm2_;
  std::shared_ptr<Sequential> downsample_;  ///< may be null
};

/// Convolutions of 1x1, 3x3 and 1x1; the 3x3 one may be replaced by a variant's own.
class ResBottleneck final : public Layer {
 public:
  static constexpr int64_t kExpansion = 4;
  /// The middle convolution of a variant.
  struct Middle {
    int64_t width = 0;  ///< 0: planes
    int64_t groups = 1;
    /// Replaces the convolution, its norm and its activation; null for ResNeXt.
    std::shared_ptr<Layer> layer;
  };
  explicit ResBottleneck(const ResBlockOptions& o) : ResBottleneck(o, Middle{}) {}
  ResBottleneck(const ResBlockOptions& o, const Middle& middle);
  torch::Tensor forward(const torch::Tensor& x) override;
  void init_weights() override;

 private:
  using Plugins = std::vector<std::shared_ptr<PluginLayer>>;
  static torch::Tensor run(const Plugins& plugins, const torch::Tensor& x);

  bool with_cp_, zero_init_;
  std::shared_ptr<Conv2d> conv1_, conv3_;
  std::shared_ptr<Layer> conv2_;
  std::shared_ptr<Norm> norm1_, norm2_, norm3_;  ///< the second is null for a variant's own layer
  std::array<Plugins, 3> plugins_;               ///< after each convolution
  std::shared_ptr<Sequential> downsample_;       ///< may be null
};

/// ResNet, He et al. 2015, arXiv:1512.03385, with the changes that segmentation made to it:
/// dilated stages, a stem of three convolutions (V1c), pooled shortcuts (V1d).
class ResNet : public Backbone {
 public:
  using Params = ResNetParams;
  static Schema<Params> schema();
  using BlockFactory = std::function<std::shared_ptr<Layer>(const ResBlockOptions&)>;

  explicit ResNet(const Params& p);
  std::vector<torch::Tensor> forward(const torch::Tensor& images) override;
  std::vector<FeatureInfo> features() const override { return features_; }
  LayerOrder layer_order() const override;
  void train(bool on = true) override;

  /// For networks that run the parts apart (ICNet): what comes before the pooling of the stem, and
  /// one stage.
  torch::Tensor forward_stem(const torch::Tensor& images);
  torch::Tensor forward_stage(size_t stage, const torch::Tensor& x);
  /// Widths and strides of the maps of all stages, whatever `out_indices` asks for.
  const std::vector<FeatureInfo>& stages() const { return stages_; }

 protected:
  /// \param blocks  blocks of each stage.
  ResNet(const Params& p, const std::vector<int64_t>& blocks, int64_t expansion,
         const BlockFactory& make_block);

 private:
  void make_stem();
  void freeze_stages();

  Params p_;
  std::shared_ptr<Sequential> stem_;  ///< with deep_stem; else the next two
  std::shared_ptr<Conv2d> conv1_;
  std::shared_ptr<Norm> norm1_;
  std::vector<std::shared_ptr<Sequential>> layers_;
  std::vector<FeatureInfo> stages_;
  std::vector<FeatureInfo> features_;
};

/// Options of the variants whose 3x3 convolutions work on groups of channels.
struct GroupedResNetParams : ResNetParams {
  int64_t groups = 1;
  int64_t base_width = 4;

  static Schema<GroupedResNetParams> schema(std::vector<int64_t> depths);
  /// Those of the residual network, as MMSegmentation heeds them.
  ResNetParams heeded() const;
  /// Width and groups of the middle convolution of a block.
  ResBottleneck::Middle middle(const ResBlockOptions& o) const;
};

}  // namespace seg
