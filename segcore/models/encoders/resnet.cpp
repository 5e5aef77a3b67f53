#include <utility>

#include "segcore/models/blocks/channel_attention.hpp"
#include "segcore/models/blocks/se_layer.hpp"
#include "segcore/models/encoders/chain_encoder.hpp"
#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/encoders/published.hpp"
#include "segcore/models/encoders/residual_block.hpp"
#include "segcore/models/encoders/resnet_variants.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

/// How libraries differ.
struct ResNetDialect {
  /// The first block of a dilated stage keeps the dilation of the stage before, as in torchvision;
  /// segmentation_models_pytorch dilates all blocks alike.
  bool keeps_dilation = true;
  bool zero_init = false;  ///< residual branches start at zero
  bool drops_paths = false;
};

/// ResNet and its variants, whose tensors all libraries name alike.
class ResNetEncoder final : public ChainEncoder {
 public:
  ResNetEncoder(const ResNetVariant& v, const std::string& name, const ResNetDialect& dialect,
                std::vector<EncoderWeights> published, const EncoderOptions& options)
      : ChainEncoder({.name = name,
                      .channels = {v.stem_channels(), 64 * v.expansion(), 128 * v.expansion(),
                                   256 * v.expansion(), 512 * v.expansion()},
                      .published = std::move(published),
                      .drops_paths = dialect.drops_paths},
                     options),
        variant_(v),
        dialect_(dialect),
        width_(v.stem_channels()) {
    add_stem();
    int64_t blocks = 0;
    for (const int64_t n : v.blocks) blocks += n;
    drop_path_rates_ = drop_path_rates(drop_path_rate(), blocks);
    for (size_t i = 0; i < v.blocks.size(); ++i) {
      add(text("layer", i + 1), stage(i));
      end_level();
    }
  }

 private:
  void add_stem() {
    const auto& v = variant_;
    if (v.stem == ResNetStem::kPlain) {
      const ResidualConv conv{.in = in_channels(), .out = width_, .kernel = 7, .stride = 2};
      set_first_conv("conv1.weight", add("conv1", residual_conv(conv)));
    } else {
      const int64_t w = v.stem_width;
      const int64_t first = v.stem == ResNetStem::kTiered ? 3 * (w / 4) : w;
      set_first_conv(
          "conv1.0.weight",
          add("conv1.0",
              residual_conv({.in = in_channels(), .out = first, .kernel = 3, .stride = 2})));
      add_norm_relu("conv1.1", "conv1.2", first);
      add("conv1.3", residual_conv({.in = first, .out = w, .kernel = 3}));
      add_norm_relu("conv1.4", "conv1.5", w);
      add("conv1.6", residual_conv({.in = w, .out = width_, .kernel = 3}));
    }
    add_norm_relu("bn1", "relu", width_);
    end_level();
    add("maxpool", [](const torch::Tensor& x) {
      return at::max_pool2d(x, /*kernel_size=*/3, /*stride=*/2, /*padding=*/1);
    });
  }

  void add_norm_relu(const std::string& norm, const std::string& relu, int64_t channels) {
    add(norm, Spec<Norm>::of("{type: BN}").build(channels));
    add(relu, [](const torch::Tensor& x) { return x.relu_(); });
  }

  std::shared_ptr<Sequential> stage(size_t i) {
    const auto& v = variant_;
    const int64_t planes = int64_t{64} << i;
    const int64_t out = planes * v.expansion();
    const int64_t dilation = dilation_of(int64_t{4} << i);
    auto row = std::make_shared<Sequential>();
    for (int64_t b = 0; b < v.blocks[i]; ++b) {
      const int64_t stride = b == 0 && i > 0 && dilation == 1 ? 2 : 1;
      const int64_t first_dilation =
          b == 0 && i > 0 && dialect_.keeps_dilation ? dilation_of(int64_t{2} << i) : dilation;
      ResidualBlockParts parts{.attention = attention(out),
                               .drop_path_rate = drop_path_rates_[blocks_++],
                               .zero_init = dialect_.zero_init};
      if (v.bottleneck) {
        const int64_t middle = planes * v.width_per_group / 64 * v.groups;
        parts.convs = {{.in = width_, .out = middle},
                       {.in = middle,
                        .out = middle,
                        .kernel = 3,
                        .stride = stride,
                        .dilation = first_dilation,
                        .groups = v.groups},
                       {.in = middle, .out = out}};
      } else {
        parts.convs = {
            {.in = width_, .out = out, .kernel = 3, .stride = stride, .dilation = first_dilation},
            {.in = out, .out = out, .kernel = 3, .dilation = dilation}};
      }
      if (b == 0 && (i > 0 || width_ != out)) parts.shortcut = shortcut(out, stride, dilation);
      row->push_back(std::make_shared<ResidualBlock>(parts));
      width_ = out;
    }
    return row;
  }

  std::shared_ptr<Sequential> shortcut(int64_t out, int64_t stride, int64_t dilation) const {
    auto layers = std::make_shared<Sequential>();
    if (variant_.avg_down) {
      layers->push_back(std::make_shared<Lambda>([stride, dilation](const torch::Tensor& x) {
        if (stride > 1) {
          return at::avg_pool2d(x, /*kernel_size=*/2, stride, /*padding=*/0, /*ceil_mode=*/true,
                                /*count_include_pad=*/false);
        }
        // A pixel more right and below keeps the size.
        return dilation == 1 ? x
                             : at::avg_pool2d(pad2d(x, 0, 1, 0, 1), /*kernel_size=*/2,
                                              /*stride=*/1);
      }));
    }
    layers->push_back(residual_conv(
        {.in = width_, .out = out, .stride = variant_.avg_down ? int64_t{1} : stride}));
    layers->push_back(Spec<Norm>::of("{type: BN}").build(out));
    return layers;
  }

  std::shared_ptr<Layer> attention(int64_t channels) const {
    switch (variant_.attention) {
      case ResNetAttention::kNone:
        break;
      case ResNetAttention::kSqueeze:
        return std::make_shared<SqueezeExcitation>(
            channels, make_divisible(static_cast<double>(channels) / 16, 8));
      case ResNetAttention::kEca:
        return std::make_shared<EfficientChannelAttention>(channels);
      case ResNetAttention::kCbam:
        return std::make_shared<ConvBlockAttention>(channels);
    }
    return nullptr;
  }

  ResNetVariant variant_;
  ResNetDialect dialect_;
  int64_t width_;  ///< of what was added last
  size_t blocks_ = 0;
  std::vector<double> drop_path_rates_;
};

std::string resnet_summary(const ResNetVariant& v) {
  int64_t layers = 2;
  for (const int64_t n : v.blocks) layers += n * (v.bottleneck ? 3 : 2);
  constexpr const char* kAttentions[] = {"", "SE-", "ECA-", "CBAM-"};
  std::string out = text(kAttentions[static_cast<size_t>(v.attention)],
                         v.groups > 1             ? "ResNeXt-"
                         : v.width_per_group > 64 ? "Wide ResNet-"
                                                  : "ResNet-",
                         layers);
  if (v.groups > 1) out += text(" of ", v.groups, " groups ", v.width_per_group, " wide");
  if (v.stem != ResNetStem::kPlain) {
    out += text(", a stem of three convolutions", v.avg_down ? " and shortcuts that pool" : "");
  }
  return out + ".";
}

std::string resnet_source(const ResNetVariant& v) {
  std::string out = "He et al. 2015, arXiv:1512.03385";
  if (v.groups > 1) out += "; ResNeXt: Xie et al. 2016, arXiv:1611.05431";
  if (v.width_per_group > 64) out += "; wide: Zagoruyko and Komodakis 2016, arXiv:1605.07146";
  if (v.stem != ResNetStem::kPlain) out += "; stem: He et al. 2018, arXiv:1812.01187";
  if (v.attention == ResNetAttention::kSqueeze) out += "; SE: Hu et al. 2017, arXiv:1709.01507";
  if (v.attention == ResNetAttention::kEca) out += "; ECA: Wang et al. 2019, arXiv:1910.03151";
  if (v.attention == ResNetAttention::kCbam) out += "; CBAM: Woo et al. 2018, arXiv:1807.06521";
  return out;
}

std::vector<EncoderEntry> resnet_encoders() {
  std::vector<EncoderEntry> out;
  const auto add = [&](const ResNetVariant& v, const std::string& name,
                       const ResNetDialect& dialect, const std::vector<EncoderWeights>& published) {
    out.push_back({.name = name,
                   .summary = resnet_summary(v),
                   .source = resnet_source(v),
                   .build = [v, name, dialect, published](const EncoderOptions& options) {
                     return std::make_shared<ResNetEncoder>(v, name, dialect, published, options);
                   }});
  };
  for (const auto& v : resnet_variants()) {
    if (v.smp[0].first) {
      std::vector<EncoderWeights> published;
      for (const auto& [weights, revision] : v.smp) {
        if (weights) published.push_back(smp_weights(v.name, weights, revision));
      }
      add(v, v.name, {.keeps_dilation = false}, published);
    }
    if (v.timm_tags) {
      add(v, text("tu-", v.name), {.zero_init = true, .drops_paths = true},
          timm_weights_of_tags(v.name, v.timm_tags));
    }
    if (v.torchvision_digests) {
      add(v, text("tv-", v.name), {}, torchvision_versions(v.name, v.torchvision_digests));
    }
  }
  return out;
}
SEG_REGISTER_ENCODERS(resnet_encoders);

}  // namespace
}  // namespace seg
