#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/encoders/mobile_encoder.hpp"
#include "segcore/models/encoders/published.hpp"

namespace seg {
namespace {

constexpr auto kEV2Conv = MobileKind::kConv;
constexpr auto kEV2Fused = MobileKind::kFused;
constexpr auto kEV2Inverted = MobileKind::kInverted;

/// Stage, kind, blocks, kernel, stride, expansion, width, squeeze and excitation. S is table 4 of
/// the paper; M and L are as the authors published them.
constexpr MobileRow kEfficientNetV2S[] = {
    {0, kEV2Conv, 2, 3, 1, 1, 24},
    {1, kEV2Fused, 4, 3, 2, 4, 48},
    {2, kEV2Fused, 4, 3, 2, 4, 64},
    {3, kEV2Inverted, 6, 3, 2, 4, 128, 0.25},
    {4, kEV2Inverted, 9, 3, 1, 6, 160, 0.25},
    {5, kEV2Inverted, 15, 3, 2, 6, 256, 0.25},
};
constexpr MobileRow kEfficientNetV2M[] = {
    {0, kEV2Conv, 3, 3, 1, 1, 24},
    {1, kEV2Fused, 5, 3, 2, 4, 48},
    {2, kEV2Fused, 5, 3, 2, 4, 80},
    {3, kEV2Inverted, 7, 3, 2, 4, 160, 0.25},
    {4, kEV2Inverted, 14, 3, 1, 6, 176, 0.25},
    {5, kEV2Inverted, 18, 3, 2, 6, 304, 0.25},
    {6, kEV2Inverted, 5, 3, 1, 6, 512, 0.25},
};
constexpr MobileRow kEfficientNetV2L[] = {
    {0, kEV2Conv, 4, 3, 1, 1, 32},
    {1, kEV2Fused, 7, 3, 2, 4, 64},
    {2, kEV2Fused, 7, 3, 2, 4, 96},
    {3, kEV2Inverted, 10, 3, 2, 4, 192, 0.25},
    {4, kEV2Inverted, 19, 3, 1, 6, 224, 0.25},
    {5, kEV2Inverted, 25, 3, 2, 6, 384, 0.25},
    {6, kEV2Inverted, 7, 3, 1, 6, 640, 0.25},
};

struct EfficientNetV2Size {
  std::string name, summary;
  std::span<const MobileRow> rows;
  int64_t stem;
  std::string torchvision_digest;
};

std::vector<EncoderEntry> efficientnet_v2_encoders() {
  const std::string source = "Tan and Le 2021, arXiv:2104.00298";
  const EfficientNetV2Size sizes[] = {{"s", "EfficientNetV2 S", kEfficientNetV2S, 24, "dd5fe13b"},
                                      {"m", "EfficientNetV2 M", kEfficientNetV2M, 24, "dc08266a"},
                                      {"l", "EfficientNetV2 L", kEfficientNetV2L, 32, "59c71312"}};
  std::vector<EncoderEntry> out;
  for (const auto& size : sizes) {
    MobileNetwork n{.rows = size.rows,
                    .stem = size.stem,
                    .style = {.act = silu_of},
                    .dilates_following = true,
                    .start = MobileNetwork::Start::kGroupFanOut,
                    .classifier = {"conv_head.", "bn2.", "classifier."}};
    out.push_back(
        mobile_entry("tu-efficientnetv2_" + size.name, size.summary + ".", source, n, {}));
    n.style.norm.eps = 1e-3;
    n.style.padding = MobilePadding::kSame;
    const auto tensorflow_name = "tf_efficientnetv2_" + size.name;
    out.push_back(mobile_entry("tu-" + tensorflow_name,
                               size.summary + " with TensorFlow's padding.", source, n,
                               timm_weights(tensorflow_name, {"in21k_ft_in1k", "in1k", "in21k"})));
    const auto name = "efficientnet_v2_" + size.name;
    out.push_back(mobile_entry(
        "tv-" + name, size.summary + ".", source,
        {.rows = size.rows,
         .stem = size.stem,
         .style = {.names = MobileNames::kTorchvision, .act = silu_of, .norm = {.eps = 1e-3}},
         .head = 1280,
         .head_makes_map = true,
         .drop_path_rate = 0.2,
         .classifier = {"classifier."}},
        {torchvision_weights(name, size.torchvision_digest)}));
  }
  return out;
}
SEG_REGISTER_ENCODERS(efficientnet_v2_encoders);

}  // namespace
}  // namespace seg
