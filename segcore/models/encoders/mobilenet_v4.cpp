#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/encoders/mobile_encoder.hpp"
#include "segcore/models/encoders/published.hpp"

namespace seg {
namespace {

constexpr auto kV4Fused = MobileKind::kFused;

constexpr MobileRow v4_conv(int stage, int64_t kernel, int64_t stride, int64_t channels) {
  return {.stage = stage,
          .kind = MobileKind::kConv,
          .kernel = kernel,
          .stride = stride,
          .channels = channels,
          .shortcut = false};
}
/// \param start  kernel of the depthwise convolution before the others; 0: none, as for `kernel`.
constexpr MobileRow v4_universal(int stage, int64_t blocks, int64_t start, int64_t kernel,
                                 int64_t stride, double expand, int64_t channels) {
  return {.stage = stage,
          .kind = MobileKind::kUniversal,
          .repeats = blocks,
          .kernel = kernel,
          .stride = stride,
          .expand = expand,
          .channels = channels,
          .start_kernel = start};
}
constexpr MobileRow v4_attention(int stage, int64_t heads, int64_t key_dim, int64_t key_stride,
                                 int64_t channels) {
  return {.stage = stage,
          .kind = MobileKind::kAttention,
          .channels = channels,
          .heads = heads,
          .key_dim = key_dim,
          .key_stride = key_stride};
}

/// Tables of the paper's appendix.
constexpr MobileRow kMobileNetV4ConvSmall[] = {
    v4_conv(0, 3, 2, 32),
    v4_conv(0, 1, 1, 32),
    v4_conv(1, 3, 2, 96),
    v4_conv(1, 1, 1, 64),
    v4_universal(2, 1, 5, 5, 2, 3, 96),
    v4_universal(2, 4, 0, 3, 1, 2, 96),
    v4_universal(2, 1, 3, 0, 1, 4, 96),
    v4_universal(3, 1, 3, 3, 2, 6, 128),
    v4_universal(3, 1, 5, 5, 1, 4, 128),
    v4_universal(3, 1, 0, 5, 1, 4, 128),
    v4_universal(3, 1, 0, 5, 1, 3, 128),
    v4_universal(3, 2, 0, 3, 1, 4, 128),
    v4_conv(4, 1, 1, 960),
};
constexpr MobileRow kMobileNetV4ConvMedium[] = {
    {0, kV4Fused, 1, 3, 2, 4, 48},       v4_universal(1, 1, 3, 5, 2, 4, 80),
    v4_universal(1, 1, 3, 3, 1, 2, 80),  v4_universal(2, 1, 3, 5, 2, 6, 160),
    v4_universal(2, 2, 3, 3, 1, 4, 160), v4_universal(2, 1, 3, 5, 1, 4, 160),
    v4_universal(2, 1, 3, 3, 1, 4, 160), v4_universal(2, 1, 3, 0, 1, 4, 160),
    v4_universal(2, 1, 0, 0, 1, 2, 160), v4_universal(2, 1, 3, 0, 1, 4, 160),
    v4_universal(3, 1, 5, 5, 2, 6, 256), v4_universal(3, 1, 5, 5, 1, 4, 256),
    v4_universal(3, 2, 3, 5, 1, 4, 256), v4_universal(3, 1, 0, 0, 1, 4, 256),
    v4_universal(3, 1, 3, 0, 1, 4, 256), v4_universal(3, 1, 3, 5, 1, 2, 256),
    v4_universal(3, 1, 5, 5, 1, 4, 256), v4_universal(3, 2, 0, 0, 1, 4, 256),
    v4_universal(3, 1, 5, 0, 1, 2, 256), v4_conv(4, 1, 1, 960),
};
constexpr MobileRow kMobileNetV4ConvLarge[] = {
    {0, kV4Fused, 1, 3, 2, 4, 48},       v4_universal(1, 1, 3, 5, 2, 4, 96),
    v4_universal(1, 1, 3, 3, 1, 4, 96),  v4_universal(2, 1, 3, 5, 2, 4, 192),
    v4_universal(2, 3, 3, 3, 1, 4, 192), v4_universal(2, 1, 3, 5, 1, 4, 192),
    v4_universal(2, 5, 5, 3, 1, 4, 192), v4_universal(2, 1, 3, 0, 1, 4, 192),
    v4_universal(3, 4, 5, 5, 2, 4, 512), v4_universal(3, 1, 5, 0, 1, 4, 512),
    v4_universal(3, 1, 5, 3, 1, 4, 512), v4_universal(3, 2, 5, 0, 1, 4, 512),
    v4_universal(3, 1, 5, 3, 1, 4, 512), v4_universal(3, 1, 5, 5, 1, 4, 512),
    v4_universal(3, 3, 5, 0, 1, 4, 512), v4_conv(4, 1, 1, 960),
};
constexpr MobileRow kMobileNetV4HybridMedium[] = {
    {0, kV4Fused, 1, 3, 2, 4, 48},
    v4_universal(1, 1, 3, 5, 2, 4, 80),
    v4_universal(1, 1, 3, 3, 1, 2, 80),
    v4_universal(2, 1, 3, 5, 2, 6, 160),
    v4_universal(2, 1, 0, 0, 1, 2, 160),
    v4_universal(2, 1, 3, 3, 1, 4, 160),
    v4_universal(2, 1, 3, 5, 1, 4, 160),
    v4_attention(2, 4, 64, 2, 160),
    v4_universal(2, 1, 3, 3, 1, 4, 160),
    v4_attention(2, 4, 64, 2, 160),
    v4_universal(2, 1, 3, 0, 1, 4, 160),
    v4_attention(2, 4, 64, 2, 160),
    v4_universal(2, 1, 3, 3, 1, 4, 160),
    v4_attention(2, 4, 64, 2, 160),
    v4_universal(2, 1, 3, 0, 1, 4, 160),
    v4_universal(3, 1, 5, 5, 2, 6, 256),
    v4_universal(3, 1, 5, 5, 1, 4, 256),
    v4_universal(3, 2, 3, 5, 1, 4, 256),
    v4_universal(3, 1, 0, 0, 1, 2, 256),
    v4_universal(3, 1, 3, 5, 1, 2, 256),
    v4_universal(3, 1, 0, 0, 1, 2, 256),
    v4_universal(3, 1, 0, 0, 1, 4, 256),
    v4_attention(3, 4, 64, 1, 256),
    v4_universal(3, 1, 3, 0, 1, 4, 256),
    v4_attention(3, 4, 64, 1, 256),
    v4_universal(3, 1, 5, 5, 1, 4, 256),
    v4_attention(3, 4, 64, 1, 256),
    v4_universal(3, 1, 5, 0, 1, 4, 256),
    v4_attention(3, 4, 64, 1, 256),
    v4_universal(3, 1, 5, 0, 1, 4, 256),
    v4_conv(4, 1, 1, 960),
};
constexpr MobileRow kMobileNetV4HybridLarge[] = {
    {0, kV4Fused, 1, 3, 2, 4, 48},       v4_universal(1, 1, 3, 5, 2, 4, 96),
    v4_universal(1, 1, 3, 3, 1, 4, 96),  v4_universal(2, 1, 3, 5, 2, 4, 192),
    v4_universal(2, 3, 3, 3, 1, 4, 192), v4_universal(2, 1, 3, 5, 1, 4, 192),
    v4_universal(2, 2, 5, 3, 1, 4, 192), v4_attention(2, 8, 48, 2, 192),
    v4_universal(2, 1, 5, 3, 1, 4, 192), v4_attention(2, 8, 48, 2, 192),
    v4_universal(2, 1, 5, 3, 1, 4, 192), v4_attention(2, 8, 48, 2, 192),
    v4_universal(2, 1, 5, 3, 1, 4, 192), v4_attention(2, 8, 48, 2, 192),
    v4_universal(2, 1, 3, 0, 1, 4, 192), v4_universal(3, 4, 5, 5, 2, 4, 512),
    v4_universal(3, 1, 5, 0, 1, 4, 512), v4_universal(3, 1, 5, 3, 1, 4, 512),
    v4_universal(3, 2, 5, 0, 1, 4, 512), v4_universal(3, 1, 5, 3, 1, 4, 512),
    v4_universal(3, 1, 5, 5, 1, 4, 512), v4_attention(3, 8, 64, 1, 512),
    v4_universal(3, 1, 5, 0, 1, 4, 512), v4_attention(3, 8, 64, 1, 512),
    v4_universal(3, 1, 5, 0, 1, 4, 512), v4_attention(3, 8, 64, 1, 512),
    v4_universal(3, 1, 5, 0, 1, 4, 512), v4_attention(3, 8, 64, 1, 512),
    v4_universal(3, 1, 5, 0, 1, 4, 512), v4_conv(4, 1, 1, 960),
};

struct TimmMobileNetV4 {
  std::string name, summary;
  std::span<const MobileRow> rows;
  int64_t stem;
  double width;
  std::vector<std::string> tags;
};

std::vector<TimmMobileNetV4> timm_mobilenets_v4() {
  return {
      {"conv_small_035", "small, 0.35 times as wide", kMobileNetV4ConvSmall, 32, 0.35, {}},
      {"conv_small_050",
       "small, 0.5 times as wide",
       kMobileNetV4ConvSmall,
       32,
       0.5,
       {"e3000_r224_in1k"}},
      {"conv_small",
       "small",
       kMobileNetV4ConvSmall,
       32,
       1,
       {"e2400_r224_in1k", "e1200_r224_in1k", "e3600_r256_in1k"}},
      {"conv_medium",
       "medium",
       kMobileNetV4ConvMedium,
       32,
       1,
       {"e500_r256_in1k", "e500_r224_in1k", "e250_r384_in12k_ft_in1k", "e180_r384_in12k",
        "e180_ad_r384_in12k", "e250_r384_in12k"}},
      {"conv_large", "large", kMobileNetV4ConvLarge, 24, 1, {"e600_r384_in1k", "e500_r256_in1k"}},
      {"hybrid_medium",
       "medium with attention",
       kMobileNetV4HybridMedium,
       32,
       1,
       {"e200_r256_in12k_ft_in1k", "ix_e550_r256_in1k", "ix_e550_r384_in1k", "e500_r224_in1k",
        "e200_r256_in12k"}},
      {"hybrid_large",
       "large with attention",
       kMobileNetV4HybridLarge,
       24,
       1,
       {"ix_e600_r384_in1k", "e600_r384_in1k"}}};
}

std::vector<EncoderEntry> mobilenet_v4_encoders() {
  std::vector<EncoderEntry> out;
  for (const auto& v : timm_mobilenets_v4()) {
    MobileNetwork n{.rows = v.rows,
                    .stem = v.stem,
                    .width = v.width,
                    .keeps_stem = v.width < 1,
                    .dilates_following = true,
                    .start = MobileNetwork::Start::kGroupFanOut,
                    .classifier = {"conv_head.", "norm_head.", "classifier."}};
    if (v.name.starts_with("hybrid")) n.style.layer_scale = 1e-5;
    if (v.name == "hybrid_large") n.style.act = gelu_of;
    const auto name = "mobilenetv4_" + v.name;
    out.push_back(mobile_entry("tu-" + name, text("MobileNetV4, ", v.summary, "."),
                               "Qin et al. 2024, arXiv:2404.10518", n, timm_weights(name, v.tags)));
  }
  return out;
}
SEG_REGISTER_ENCODERS(mobilenet_v4_encoders);

}  // namespace
}  // namespace seg
