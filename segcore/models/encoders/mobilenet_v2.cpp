#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/encoders/mobile_encoder.hpp"
#include "segcore/models/encoders/published.hpp"

namespace seg {
namespace {

constexpr auto kV2Separable = MobileKind::kSeparable;
constexpr auto kV2Inverted = MobileKind::kInverted;

/// Table 2 of the paper: stage, kind, blocks, kernel, stride, expansion, width.
constexpr MobileRow kMobileNetV2Rows[] = {
    {0, kV2Separable, 1, 3, 1, 1, 16}, {1, kV2Inverted, 2, 3, 2, 6, 24},
    {2, kV2Inverted, 3, 3, 2, 6, 32},  {3, kV2Inverted, 4, 3, 2, 6, 64},
    {4, kV2Inverted, 3, 3, 1, 6, 96},  {5, kV2Inverted, 3, 3, 2, 6, 160},
    {6, kV2Inverted, 1, 3, 1, 6, 320},
};

struct TimmMobileNetV2 {
  const char* name;
  double width, depth;
  bool keeps_ends;
  std::vector<std::string> tags;
};

std::vector<TimmMobileNetV2> timm_mobilenets_v2() {
  return {{"mobilenetv2_035", 0.35, 1, false, {}},
          {"mobilenetv2_050", 0.5, 1, false, {"lamb_in1k"}},
          {"mobilenetv2_075", 0.75, 1, false, {}},
          {"mobilenetv2_100", 1, 1, false, {"ra_in1k"}},
          {"mobilenetv2_110d", 1.1, 1.2, true, {"ra_in1k"}},
          {"mobilenetv2_120d", 1.2, 1.4, true, {"ra_in1k"}},
          {"mobilenetv2_140", 1.4, 1, false, {"ra_in1k"}}};
}

std::vector<EncoderEntry> mobilenet_v2_encoders() {
  const std::string source = "Sandler et al. 2018, arXiv:1801.04381";
  const std::string name = "mobilenet_v2";
  const MobileNetwork torchvision{.rows = kMobileNetV2Rows,
                                  .style = {.names = MobileNames::kTorchvisionV2, .act = relu6_of},
                                  .head = 1280,
                                  .head_makes_map = true,
                                  .numbers_stages = false,
                                  .counts_one_level_more = true,
                                  .drops_paths = false,
                                  .classifier = {"classifier."}};
  std::vector<EncoderEntry> out{
      mobile_entry(name, "MobileNetV2.", source, torchvision,
                   {smp_weights(name, "imagenet", "e67aa804e17f7b404b629127eabbd224c4e0690b")}),
      mobile_entry("tv-" + name, "MobileNetV2.", source, torchvision,
                   {torchvision_weights(name, "7ebf99e0"),
                    torchvision_weights(name, "7ebf99e0", "imagenet1k_v2"),
                    torchvision_weights(name, "b0353104", "imagenet1k_v1")})};
  for (const auto& v : timm_mobilenets_v2()) {
    out.push_back(
        mobile_entry(text("tu-", v.name),
                     text("MobileNetV2, ", v.width, " times as wide",
                          v.depth > 1 ? text(" and ", v.depth, " times as deep") : "", "."),
                     source,
                     {.rows = kMobileNetV2Rows,
                      .width = v.width,
                      .depth = v.depth,
                      .keeps_stem = v.keeps_ends,
                      .keeps_ends = v.keeps_ends,
                      .style = {.act = relu6_of},
                      .dilates_following = true,
                      .start = MobileNetwork::Start::kGroupFanOut,
                      .classifier = {"conv_head.", "bn2.", "classifier."}},
                     timm_weights(v.name, v.tags)));
  }
  return out;
}
SEG_REGISTER_ENCODERS(mobilenet_v2_encoders);

}  // namespace
}  // namespace seg
