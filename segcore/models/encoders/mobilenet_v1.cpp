#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/encoders/mobile_encoder.hpp"
#include "segcore/models/encoders/published.hpp"

namespace seg {
namespace {

/// Table 1 of the paper: depthwise separable convolutions, both halves with an activation.
constexpr MobileRow v1_row(int stage, int64_t blocks, int64_t stride, int64_t channels) {
  return {.stage = stage,
          .kind = MobileKind::kSeparable,
          .repeats = blocks,
          .stride = stride,
          .channels = channels,
          .shortcut = false,
          .acts_last = true};
}
constexpr MobileRow kMobileNetV1Rows[] = {v1_row(0, 1, 1, 64), v1_row(1, 2, 2, 128),
                                          v1_row(2, 2, 2, 256), v1_row(3, 6, 2, 512),
                                          v1_row(4, 2, 2, 1024)};

struct TimmMobileNetV1 {
  const char* name;
  const char* summary;
  double width;
};

constexpr TimmMobileNetV1 kMobileNetsV1[] = {
    {"mobilenetv1_100", "MobileNet.", 1},
    {"mobilenetv1_100h", "MobileNet, trained with a convolution before the classifier.", 1},
    {"mobilenetv1_125", "MobileNet, 1.25 times as wide.", 1.25}};

std::vector<EncoderEntry> mobilenet_v1_encoders() {
  std::vector<EncoderEntry> out;
  for (const auto& v : kMobileNetsV1) {
    out.push_back(mobile_entry(text("tu-", v.name), v.summary,
                               "Howard et al. 2017, arXiv:1704.04861",
                               {.rows = kMobileNetV1Rows,
                                .width = v.width,
                                .style = {.act = relu6_of},
                                .dilates_following = true,
                                .start = MobileNetwork::Start::kGroupFanOut,
                                .drops_paths = false,
                                .classifier = {"conv_head.", "bn2.", "classifier."}},
                               timm_weights(v.name, {"ra4_e3600_r224_in1k"})));
  }
  return out;
}
SEG_REGISTER_ENCODERS(mobilenet_v1_encoders);

}  // namespace
}  // namespace seg
