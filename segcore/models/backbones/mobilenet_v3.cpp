#include "segcore/models/backbones/mobilenet.hpp"
#include "segcore/models/blocks/inverted_residual.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct MobileNetV3Params : MobileNetParams {
  MobileNetV3Params() { out_indices = {0, 1, 12}; }
  std::string arch = "small";
  int64_t reduction_factor = 1;
};

namespace {

struct MobileNetV3Block {
  int64_t kernel_size, mid_channels, out_channels;
  bool with_se;
  const char* act;
  int64_t stride;
};

/// Tables 1 and 2 of the paper, with the strides of classification.
const std::vector<MobileNetV3Block>& mobilenet_v3_blocks(const std::string& arch) {
  static const std::vector<MobileNetV3Block> small{
      {3, 16, 16, true, "ReLU", 2},    {3, 72, 24, false, "ReLU", 2},
      {3, 88, 24, false, "ReLU", 1},   {5, 96, 40, true, "HSwish", 2},
      {5, 240, 40, true, "HSwish", 1}, {5, 240, 40, true, "HSwish", 1},
      {5, 120, 48, true, "HSwish", 1}, {5, 144, 48, true, "HSwish", 1},
      {5, 288, 96, true, "HSwish", 2}, {5, 576, 96, true, "HSwish", 1},
      {5, 576, 96, true, "HSwish", 1}};
  static const std::vector<MobileNetV3Block> large{
      {3, 16, 16, false, "ReLU", 1},    {3, 64, 24, false, "ReLU", 2},
      {3, 72, 24, false, "ReLU", 1},    {5, 72, 40, true, "ReLU", 2},
      {5, 120, 40, true, "ReLU", 1},    {5, 120, 40, true, "ReLU", 1},
      {3, 240, 80, false, "HSwish", 2}, {3, 200, 80, false, "HSwish", 1},
      {3, 184, 80, false, "HSwish", 1}, {3, 184, 80, false, "HSwish", 1},
      {3, 480, 112, true, "HSwish", 1}, {3, 672, 112, true, "HSwish", 1},
      {5, 672, 160, true, "HSwish", 2}, {5, 960, 160, true, "HSwish", 1},
      {5, 960, 160, true, "HSwish", 1}};
  return arch == "small" ? small : large;
}

}  // namespace

/// MobileNetV3 for segmentation: the last two strides become dilations, so that maps keep stride 8.
class MobileNetV3 final : public MobileNet {
 public:
  using Params = MobileNetV3Params;
  static Schema<Params> schema() {
    return Schema<Params>("Inverted residuals with squeeze and excitation, dilated.")
        .source("Howard et al. 2019, arXiv:1905.02244")
        .optional("arch", &Params::arch, "size", one_of({"small", "large"}))
        .optional("out_indices", &Params::out_indices, "layers whose maps are returned",
                  at_least(0))
        .optional("frozen_stages", &Params::frozen_stages,
                  "freeze the layers up to this one; -1: none", at_least(-1))
        .optional("reduction_factor", &Params::reduction_factor,
                  "divisor of the widths of the last three blocks", at_least(1))
        .include(MobileNetParams::schema())
        .validate([](const Params& p, Problems& problems) {
          const auto layers = static_cast<int64_t>(mobilenet_v3_blocks(p.arch).size()) + 2;
          for (const int64_t i : p.out_indices) {
            if (i >= layers) {
              problems.error("out_indices", text("names layer ", i, " of ", layers));
            }
          }
          if (p.frozen_stages >= layers) {
            problems.error("frozen_stages", text("names layer ", p.frozen_stages, " of ", layers));
          }
        });
  }

  explicit MobileNetV3(const Params& p) : MobileNet(p), frozen_layers_(p.frozen_stages + 1) {
    const bool small = p.arch == "small";
    const auto& blocks = mobilenet_v3_blocks(p.arch);
    const ConvCfg adaptive = Spec<Conv2d>::of("{type: Conv2dAdaptivePadding}");
    int64_t in = 16, stride = 2;
    size_t layer = 0;
    const auto add_next = [&](std::shared_ptr<Layer> next, int64_t channels) {
      add(text("layer", layer++), std::move(next), channels, stride);
    };
    add_next(make_stem(in, adaptive, act_cfg_of("{type: HSwish}")), in);
    // Layers from `first` on are dilated by 2, from `second` on by 4; these two stride no more.
    const size_t first = small ? 4 : 7, second = small ? 9 : 13;
    for (size_t i = 0; i < blocks.size(); ++i) {
      const MobileNetV3Block& b = blocks[i];
      const bool reduced = i >= (small ? 8u : 12u);
      const int64_t mid = reduced ? b.mid_channels / p.reduction_factor : b.mid_channels;
      const int64_t out = reduced ? b.out_channels / p.reduction_factor : b.out_channels;
      const int64_t dilation = layer >= second ? 4 : layer >= first ? 2 : 1;
      const bool dilates = layer == first || layer == second;
      InvertedResidualV3Options o{.in_channels = in,
                                  .out_channels = out,
                                  .mid_channels = mid,
                                  .kernel_size = b.kernel_size,
                                  .shortcut = b.stride == 1 && in == out,
                                  .stride = dilates ? 1 : b.stride,
                                  .padding = (b.kernel_size - 1) / 2 * dilation,
                                  .dilation = dilation,
                                  .depthwise_conv_cfg = b.stride == 2 ? adaptive : p.conv_cfg,
                                  .conv_cfg = p.conv_cfg,
                                  .norm_cfg = p.norm_cfg,
                                  .act_cfg = act_cfg_of(text("{type: ", b.act, "}")),
                                  .with_cp = p.with_cp};
      if (b.with_se) o.se_cfg = SEOptions{.channels = mid, .ratio = 4};
      stride *= dilates ? 1 : b.stride;
      in = out;
      add_next(std::make_shared<InvertedResidualV3>(o), out);
    }
    const int64_t last = small ? 576 : 960;
    add_next(
        std::make_shared<ConvModule>(ConvModuleOptions{.in_channels = in,
                                                       .out_channels = last,
                                                       .dilation = 4,
                                                       .conv_cfg = p.conv_cfg,
                                                       .norm_cfg = p.norm_cfg,
                                                       .act_cfg = act_cfg_of("{type: HSwish}")}),
        last);
    freeze_stages();
  }

 private:
  void freeze_stages() override { freeze_layers(frozen_layers_); }

  int64_t frozen_layers_;
};

SEG_REGISTER(Backbone, MobileNetV3);

}  // namespace seg
