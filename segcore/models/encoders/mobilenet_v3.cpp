#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/encoders/mobile_encoder.hpp"
#include "segcore/models/encoders/published.hpp"

namespace seg {
namespace {

constexpr auto kV3Separable = MobileKind::kSeparable;
constexpr auto kV3Inverted = MobileKind::kInverted;
constexpr auto kV3Conv = MobileKind::kConv;

/// Tables 1 and 2 of the paper: stage, kind, blocks, kernel, stride, expansion, width, squeeze and
/// excitation, activation if it is not the hard swish.
constexpr MobileRow kMobileNetV3Large[] = {
    {0, kV3Separable, 1, 3, 1, 1, 16, 0, relu_of},
    {1, kV3Inverted, 1, 3, 2, 4, 24, 0, relu_of},
    {1, kV3Inverted, 1, 3, 1, 3, 24, 0, relu_of},
    {2, kV3Inverted, 3, 5, 2, 3, 40, 0.25, relu_of},
    {3, kV3Inverted, 1, 3, 2, 6, 80},
    {3, kV3Inverted, 1, 3, 1, 2.5, 80},
    {3, kV3Inverted, 2, 3, 1, 2.3, 80},
    {4, kV3Inverted, 2, 3, 1, 6, 112, 0.25},
    {5, kV3Inverted, 3, 5, 2, 6, 160, 0.25},
    {6, kV3Conv, 1, 1, 1, 1, 960, 0, nullptr, /*shortcut=*/false},
};
constexpr MobileRow kMobileNetV3Small[] = {
    {0, kV3Separable, 1, 3, 2, 1, 16, 0.25, relu_of},
    {1, kV3Inverted, 1, 3, 2, 4.5, 24, 0, relu_of},
    {1, kV3Inverted, 1, 3, 1, 3.67, 24, 0, relu_of},
    {2, kV3Inverted, 1, 5, 2, 4, 40, 0.25},
    {2, kV3Inverted, 2, 5, 1, 6, 40, 0.25},
    {3, kV3Inverted, 2, 5, 1, 3, 48, 0.25},
    {4, kV3Inverted, 3, 5, 2, 6, 96, 0.25},
    {5, kV3Conv, 1, 1, 1, 1, 576, 0, nullptr, /*shortcut=*/false},
};
/// The same with kernels of 3, ReLU and no squeeze and excitation.
constexpr MobileRow kMobileNetV3LargeMinimal[] = {
    {0, kV3Separable, 1, 3, 1, 1, 16},
    {1, kV3Inverted, 1, 3, 2, 4, 24},
    {1, kV3Inverted, 1, 3, 1, 3, 24},
    {2, kV3Inverted, 3, 3, 2, 3, 40},
    {3, kV3Inverted, 1, 3, 2, 6, 80},
    {3, kV3Inverted, 1, 3, 1, 2.5, 80},
    {3, kV3Inverted, 2, 3, 1, 2.3, 80},
    {4, kV3Inverted, 2, 3, 1, 6, 112},
    {5, kV3Inverted, 3, 3, 2, 6, 160},
    {6, kV3Conv, 1, 1, 1, 1, 960, 0, nullptr, /*shortcut=*/false},
};
constexpr MobileRow kMobileNetV3SmallMinimal[] = {
    {0, kV3Separable, 1, 3, 2, 1, 16},
    {1, kV3Inverted, 1, 3, 2, 4.5, 24},
    {1, kV3Inverted, 1, 3, 1, 3.67, 24},
    {2, kV3Inverted, 1, 3, 2, 4, 40},
    {2, kV3Inverted, 2, 3, 1, 6, 40},
    {3, kV3Inverted, 2, 3, 1, 3, 48},
    {4, kV3Inverted, 3, 3, 2, 6, 96},
    {5, kV3Conv, 1, 1, 1, 1, 576, 0, nullptr, /*shortcut=*/false},
};

const std::string& mobilenet_v3_source() {
  static const std::string source = "Howard et al. 2019, arXiv:1905.02244";
  return source;
}

/// torchvision's last convolution stands apart from the stages.
EncoderEntry torchvision_mobilenet_v3(const std::string& size, std::span<const MobileRow> rows,
                                      const std::vector<EncoderWeights>& published) {
  return mobile_entry("tv-mobilenet_v3_" + size, text("MobileNetV3 ", size, "."),
                      mobilenet_v3_source(),
                      {.rows = rows.first(rows.size() - 1),
                       .stem = 16,
                       .style = {.names = MobileNames::kTorchvision,
                                 .act = hard_swish_of,
                                 .squeeze_act = relu_of,
                                 .gate = hard_sigmoid_of,
                                 .norm = {.eps = 1e-3, .momentum = 0.01}},
                       .squeezes_middle = true,
                       .head = rows.back().channels,
                       .head_makes_map = true,
                       .numbers_stages = false,
                       .drops_paths = false,
                       .classifier = {"classifier."}},
                      published);
}

struct TimmMobileNetV3 {
  std::string name;
  std::span<const MobileRow> rows;
  double width, depth;
  bool from_tensorflow;
  std::vector<std::string> tags;
};

std::vector<TimmMobileNetV3> timm_mobilenets_v3() {
  const std::span<const MobileRow> large = kMobileNetV3Large, small = kMobileNetV3Small;
  return {{"mobilenetv3_large_075", large, 0.75, 1, false, {}},
          {"mobilenetv3_large_100",
           large,
           1,
           1,
           false,
           {"ra_in1k", "ra4_e3600_r224_in1k", "miil_in21k_ft_in1k", "miil_in21k"}},
          {"mobilenetv3_large_150d", large, 1.5, 1.2, false, {"ra4_e3600_r256_in1k"}},
          {"mobilenetv3_small_050", small, 0.5, 1, false, {"lamb_in1k"}},
          {"mobilenetv3_small_075", small, 0.75, 1, false, {"lamb_in1k"}},
          {"mobilenetv3_small_100", small, 1, 1, false, {"lamb_in1k"}},
          {"tf_mobilenetv3_large_075", large, 0.75, 1, true, {"in1k"}},
          {"tf_mobilenetv3_large_100", large, 1, 1, true, {"in1k"}},
          {"tf_mobilenetv3_large_minimal_100", kMobileNetV3LargeMinimal, 1, 1, true, {"in1k"}},
          {"tf_mobilenetv3_small_075", small, 0.75, 1, true, {"in1k"}},
          {"tf_mobilenetv3_small_100", small, 1, 1, true, {"in1k"}},
          {"tf_mobilenetv3_small_minimal_100", kMobileNetV3SmallMinimal, 1, 1, true, {"in1k"}}};
}

EncoderEntry timm_mobilenet_v3(const TimmMobileNetV3& v) {
  const bool minimal = v.name.find("minimal") != std::string::npos;
  return mobile_entry(
      "tu-" + v.name,
      text("MobileNetV3 ", v.name.find("large") != std::string::npos ? "large" : "small",
           minimal ? " without squeeze and excitation" : "", ", ", v.width, " times as wide",
           v.from_tensorflow ? ", with TensorFlow's padding." : "."),
      mobilenet_v3_source(),
      {.rows = v.rows,
       .stem = 16,
       .width = v.width,
       .depth = v.depth,
       .keeps_stem = v.width < 0.75,
       .style = {.act = minimal ? relu_of : hard_swish_of,
                 .squeeze_act = relu_of,
                 .gate = hard_sigmoid_of,
                 .norm = {.eps = v.from_tensorflow ? 1e-3 : 1e-5},
                 .padding = v.from_tensorflow ? MobilePadding::kSame : MobilePadding::kCentred},
       .squeezes_middle = true,
       .dilates_following = true,
       .start = MobileNetwork::Start::kGroupFanOut,
       .classifier = {"conv_head.", "norm_head.", "classifier."}},
      timm_weights(v.name, v.tags));
}

std::vector<EncoderEntry> mobilenet_v3_encoders() {
  std::vector<EncoderEntry> out{
      torchvision_mobilenet_v3(
          "large", kMobileNetV3Large,
          {torchvision_weights("mobilenet_v3_large", "5c1a4163"),
           torchvision_weights("mobilenet_v3_large", "5c1a4163", "imagenet1k_v2"),
           torchvision_weights("mobilenet_v3_large", "8738ca79", "imagenet1k_v1")}),
      torchvision_mobilenet_v3("small", kMobileNetV3Small,
                               {torchvision_weights("mobilenet_v3_small", "047dcff4")})};
  for (const auto& v : timm_mobilenets_v3()) {
    auto entry = timm_mobilenet_v3(v);
    if (v.from_tensorflow) {
      // An older name of segmentation_models_pytorch, whose models have the encoder as `model`.
      auto older = entry;
      older.name = "timm-" + v.name.substr(3);
      older.build = [build = entry.build](const EncoderOptions& options) {
        return nested_encoder("model", build(options), options);
      };
      out.push_back(std::move(older));
    }
    out.push_back(std::move(entry));
  }
  return out;
}
SEG_REGISTER_ENCODERS(mobilenet_v3_encoders);

}  // namespace
}  // namespace seg
