#include <array>
#include <utility>

#include "segcore/models/blocks/channel_attention.hpp"
#include "segcore/models/encoders/chain_encoder.hpp"
#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/encoders/published.hpp"
#include "segcore/models/encoders/residual_block.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

enum class SENetKind { kResNet, kResNeXt, kSENet154 };

struct SENetVariant {
  const char* name;
  const char* summary;
  SENetKind kind;
  std::array<int64_t, 4> blocks;
  int64_t groups;
  const char* smp_revision;
};

constexpr SENetVariant kSENets[] = {
    {"senet154",
     "SENet-154.",
     SENetKind::kSENet154,
     {3, 8, 36, 3},
     64,
     "249f45efc9881ba560a0c480128edbc34ab87e40"},
    {"se_resnet50",
     "SE-ResNet-50.",
     SENetKind::kResNet,
     {3, 4, 6, 3},
     1,
     "e6b4bc2dc85226c3d3474544410724a485455459"},
    {"se_resnet101",
     "SE-ResNet-101.",
     SENetKind::kResNet,
     {3, 4, 23, 3},
     1,
     "71fe95cc0a27f444cf83671f354de02dc741b18b"},
    {"se_resnet152",
     "SE-ResNet-152.",
     SENetKind::kResNet,
     {3, 8, 36, 3},
     1,
     "e79fc3d9d76f197bd76a2593c2054edf1083fe32"},
    {"se_resnext50_32x4d",
     "SE-ResNeXt-50 of 32 groups 4 wide.",
     SENetKind::kResNeXt,
     {3, 4, 6, 3},
     32,
     "73246406d879a2b0e3fdfe6fddd56347d38f38ae"},
    {"se_resnext101_32x4d",
     "SE-ResNeXt-101 of 32 groups 4 wide.",
     SENetKind::kResNeXt,
     {3, 4, 23, 3},
     32,
     "18808a4276f46421d358a9de554e0b93c2795df4"},
};

/// Networks with squeeze and excitation, as R. Cadene's package pretrainedmodels and
/// segmentation_models_pytorch have them: SE-ResNets stride in the first convolution of a block.
class SENet final : public ChainEncoder {
 public:
  SENet(const SENetVariant& v, const EncoderOptions& options)
      : ChainEncoder({.name = v.name,
                      .channels = {stem_channels(v), 256, 512, 1024, 2048},
                      .published = {smp_weights(v.name, "imagenet", v.smp_revision)},
                      .classifier = {"last_linear."},
                      .init = EncoderFacts::kPyTorchInit},
                     options),
        variant_(v),
        width_(stem_channels(v)) {
    if (v.kind == SENetKind::kSENet154) {
      add_first_conv({.in = in_channels(), .out = 64, .kernel = 3, .stride = 2});
      add_stem_conv(2, {.in = 64, .out = 64, .kernel = 3});
      add_stem_conv(3, {.in = 64, .out = width_, .kernel = 3});
    } else {
      add_first_conv({.in = in_channels(), .out = width_, .kernel = 7, .stride = 2});
    }
    end_level();
    add("layer0_pool", [](const torch::Tensor& x) {
      return at::max_pool2d(x, /*kernel_size=*/3, /*stride=*/2, /*padding=*/0, /*dilation=*/1,
                            /*ceil_mode=*/true);
    });
    for (size_t i = 0; i < v.blocks.size(); ++i) {
      add(text("layer", i + 1), stage(i));
      end_level();
    }
  }

 private:
  static int64_t stem_channels(const SENetVariant& v) {
    return v.kind == SENetKind::kSENet154 ? 128 : 64;
  }
  void add_first_conv(const ResidualConv& c) {
    set_first_conv("layer0.conv1.weight", add_stem_conv(1, c));
  }
  std::shared_ptr<Conv2d> add_stem_conv(int64_t number, const ResidualConv& c) {
    auto conv = add(text("layer0.conv", number), residual_conv(c));
    add(text("layer0.bn", number), Spec<Norm>::of("{type: BN}").build(c.out));
    add(text("layer0.relu", number), [](const torch::Tensor& x) { return x.relu_(); });
    return conv;
  }

  std::shared_ptr<Sequential> stage(size_t i) {
    const int64_t planes = int64_t{64} << i;
    const int64_t dilation = dilation_of(int64_t{4} << i);
    auto row = std::make_shared<Sequential>();
    for (int64_t b = 0; b < variant_.blocks[i]; ++b) {
      const int64_t stride = b == 0 && i > 0 && dilation == 1 ? 2 : 1;
      ResidualBlockParts parts{
          .convs = convs(planes, stride, dilation),
          .attention_name = "se_module",
          .attention = std::make_shared<SqueezeExcitation>(4 * planes, 4 * planes / 16)};
      if (b == 0) {
        const int64_t kernel = variant_.kind == SENetKind::kSENet154 && i > 0 ? 3 : 1;
        parts.shortcut = std::make_shared<Sequential>();
        parts.shortcut->push_back(residual_conv({.in = width_,
                                                 .out = 4 * planes,
                                                 .kernel = kernel,
                                                 .stride = stride,
                                                 .dilation = dilation}));
        parts.shortcut->push_back(Spec<Norm>::of("{type: BN}").build(4 * planes));
      }
      row->push_back(std::make_shared<ResidualBlock>(parts));
      width_ = 4 * planes;
    }
    return row;
  }

  std::vector<ResidualConv> convs(int64_t planes, int64_t stride, int64_t dilation) const {
    int64_t first = planes, middle = planes;
    if (variant_.kind == SENetKind::kSENet154) {
      first = 2 * planes;
      middle = 4 * planes;
    } else if (variant_.kind == SENetKind::kResNeXt) {
      first = middle = planes * 4 / 64 * variant_.groups;
    }
    const bool strides_first = variant_.kind == SENetKind::kResNet;
    return {{.in = width_, .out = first, .stride = strides_first ? stride : 1},
            {.in = first,
             .out = middle,
             .kernel = 3,
             .stride = strides_first ? 1 : stride,
             .dilation = dilation,
             .groups = variant_.groups},
            {.in = middle, .out = 4 * planes}};
  }

  SENetVariant variant_;
  int64_t width_;  ///< of what was added last
};

std::vector<EncoderEntry> senet_encoders() {
  std::vector<EncoderEntry> out;
  for (const auto& v : kSENets) {
    out.push_back({.name = v.name,
                   .summary = v.summary,
                   .source = "Hu et al. 2017, arXiv:1709.01507",
                   .build = [v](const EncoderOptions& options) {
                     return std::make_shared<SENet>(v, options);
                   }});
  }
  return out;
}
SEG_REGISTER_ENCODERS(senet_encoders);

}  // namespace
}  // namespace seg
