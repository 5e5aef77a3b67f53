#include <cmath>

#include "segcore/models/blocks/se_layer.hpp"
#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/encoders/mobile_encoder.hpp"
#include "segcore/models/encoders/published.hpp"

namespace seg {
namespace {

constexpr auto kB0Separable = MobileKind::kSeparable;
constexpr auto kB0Inverted = MobileKind::kInverted;

/// Table 1 of the paper, B0: stage, kind, blocks, kernel, stride, expansion, width, squeeze and
/// excitation.
constexpr MobileRow kEfficientNetRows[] = {
    {0, kB0Separable, 1, 3, 1, 1, 16, 0.25}, {1, kB0Inverted, 2, 3, 2, 6, 24, 0.25},
    {2, kB0Inverted, 2, 5, 2, 6, 40, 0.25},  {3, kB0Inverted, 3, 3, 2, 6, 80, 0.25},
    {4, kB0Inverted, 3, 5, 1, 6, 112, 0.25}, {5, kB0Inverted, 4, 5, 2, 6, 192, 0.25},
    {6, kB0Inverted, 1, 3, 1, 6, 320, 0.25},
};
/// The same without squeeze and excitation.
constexpr MobileRow kEfficientNetLiteRows[] = {
    {0, kB0Separable, 1, 3, 1, 1, 16}, {1, kB0Inverted, 2, 3, 2, 6, 24},
    {2, kB0Inverted, 2, 5, 2, 6, 40},  {3, kB0Inverted, 3, 3, 2, 6, 80},
    {4, kB0Inverted, 3, 5, 1, 6, 112}, {5, kB0Inverted, 4, 5, 2, 6, 192},
    {6, kB0Inverted, 1, 3, 1, 6, 320},
};

using EfficientNetFiles = std::vector<EncoderWeights>;

const std::string& efficientnet_source() {
  static const std::string source = "Tan and Le 2019, arXiv:1905.11946";
  return source;
}

/// Weights at a commit of segmentation_models_pytorch's repository.
struct SmpRevision {
  std::string weights, revision;
};

EfficientNetFiles smp_revisions(const std::string& name,
                                const std::vector<SmpRevision>& revisions) {
  EfficientNetFiles out;
  for (const auto& r : revisions) out.push_back(smp_weights(name, r.weights, r.revision));
  return out;
}

/// A size of the family: factors of widths and depths.
struct EfficientNetSize {
  const char* name;  ///< after "efficientnet_"
  double width, depth;
  int64_t image_size;  ///< that the weights were trained for
};
constexpr EfficientNetSize kEfficientNetSizes[] = {
    {"b0", 1.0, 1.0, 224}, {"b1", 1.0, 1.1, 240}, {"b2", 1.1, 1.2, 260}, {"b3", 1.2, 1.4, 300},
    {"b4", 1.4, 1.8, 380}, {"b5", 1.6, 2.2, 456}, {"b6", 1.8, 2.6, 528}, {"b7", 2.0, 3.1, 600},
    {"b8", 2.2, 3.6, 672}, {"l2", 4.3, 5.3, 800}};
constexpr EfficientNetSize kEfficientNetLiteSizes[] = {{"lite0", 1.0, 1.0, 224},
                                                       {"lite1", 1.0, 1.1, 240},
                                                       {"lite2", 1.1, 1.2, 260},
                                                       {"lite3", 1.2, 1.4, 280},
                                                       {"lite4", 1.4, 1.8, 300}};

std::string efficientnet_summary(const EfficientNetSize& size, const std::string& more = "") {
  std::string name = size.name;
  name.front() = static_cast<char>(std::toupper(name.front()));
  return text("EfficientNet ", name, more, ".");
}

MobileNetwork timm_efficientnet(const EfficientNetSize& size, bool from_tensorflow) {
  return {.rows = kEfficientNetRows,
          .width = size.width,
          .depth = size.depth,
          .style = {.act = silu_of,
                    .norm = {.eps = from_tensorflow ? 1e-3 : 1e-5},
                    .padding = from_tensorflow ? MobilePadding::kSame : MobilePadding::kCentred},
          .dilates_following = true,
          .start = MobileNetwork::Start::kGroupFanOut,
          .classifier = {"conv_head.", "bn2.", "classifier."}};
}

MobileNetwork timm_efficientnet_lite(const EfficientNetSize& size) {
  auto n = timm_efficientnet(size, /*from_tensorflow=*/true);
  n.rows = kEfficientNetLiteRows;
  n.keeps_stem = n.keeps_ends = true;
  n.style.act = relu6_of;
  return n;
}

std::vector<EncoderEntry> timm_efficientnets() {
  const std::vector<std::vector<std::string>> tags{{"ra_in1k", "ra4_e3600_r224_in1k"},
                                                   {"ra4_e3600_r240_in1k", "ft_in1k"},
                                                   {"ra_in1k"},
                                                   {"ra2_in1k"},
                                                   {"ra2_in1k"},
                                                   {"sw_in12k_ft_in1k", "sw_in12k"},
                                                   {},
                                                   {},
                                                   {},
                                                   {}};
  const std::vector<std::string> usual{"ns_jft_in1k", "ap_in1k", "aa_in1k", "in1k"};
  const std::vector<std::vector<std::string>> tensorflow_tags{
      usual,
      usual,
      usual,
      usual,
      usual,
      {"ns_jft_in1k", "ap_in1k", "ra_in1k", "aa_in1k", "in1k"},
      {"ns_jft_in1k", "ap_in1k", "aa_in1k"},
      {"ns_jft_in1k", "ap_in1k", "ra_in1k", "aa_in1k"},
      {"ap_in1k", "ra_in1k"},
      {"ns_jft_in1k_475", "ns_jft_in1k"}};
  std::vector<EncoderEntry> out;
  for (size_t i = 0; i < std::size(kEfficientNetSizes); ++i) {
    const auto& size = kEfficientNetSizes[i];
    const auto name = text("efficientnet_", size.name);
    out.push_back(mobile_entry("tu-" + name, efficientnet_summary(size), efficientnet_source(),
                               timm_efficientnet(size, false), timm_weights(name, tags[i])));
    out.push_back(mobile_entry("tu-tf_" + name,
                               efficientnet_summary(size, " with TensorFlow's padding"),
                               efficientnet_source(), timm_efficientnet(size, true),
                               timm_weights("tf_" + name, tensorflow_tags[i])));
  }
  for (const auto& size : kEfficientNetLiteSizes) {
    const auto name = text("tf_efficientnet_", size.name);
    out.push_back(mobile_entry("tu-" + name, efficientnet_summary(size), efficientnet_source(),
                               timm_efficientnet_lite(size), timm_weights(name, {"in1k"})));
  }
  return out;
}

std::vector<EncoderEntry> torchvision_efficientnets() {
  const std::vector<EfficientNetFiles> published{
      {torchvision_weights("efficientnet_b0_rwightman", "7f5810bc")},
      {torchvision_weights("efficientnet_b1", "c27df63c"),
       torchvision_weights("efficientnet_b1", "c27df63c", "imagenet1k_v2"),
       torchvision_weights("efficientnet_b1_rwightman", "bac287d4", "imagenet1k_v1")},
      {torchvision_weights("efficientnet_b2_rwightman", "c35c1473")},
      {torchvision_weights("efficientnet_b3_rwightman", "b3899882")},
      {torchvision_weights("efficientnet_b4_rwightman", "23ab8bcd")},
      {torchvision_weights("efficientnet_b5_lukemelas", "1a07897c")},
      {torchvision_weights("efficientnet_b6_lukemelas", "24a108a5")},
      {torchvision_weights("efficientnet_b7_lukemelas", "c5b4e57e")}};
  std::vector<EncoderEntry> out;
  for (size_t i = 0; i < published.size(); ++i) {
    const auto& size = kEfficientNetSizes[i];
    MobileNetwork n{.rows = kEfficientNetRows,
                    .width = size.width,
                    .depth = size.depth,
                    .style = {.names = MobileNames::kTorchvision, .act = silu_of},
                    .head = 4 * make_divisible(320 * size.width, 8),
                    .head_makes_map = true,
                    .drop_path_rate = 0.2,
                    .classifier = {"classifier."}};
    if (i >= 5) n.style.norm = {.eps = 1e-3, .momentum = 0.01};
    out.push_back(mobile_entry(text("tv-efficientnet_", size.name), efficientnet_summary(size),
                               efficientnet_source(), n, published[i]));
  }
  return out;
}

/// Of segmentation_models_pytorch, with the names of the package efficientnet-pytorch.
std::vector<EncoderEntry> smp_efficientnets() {
  const std::vector<std::vector<SmpRevision>> revisions{
      {{"imagenet", "1bbe7ecc1d5ea1d2058de1a2db063b8701aff314"},
       {"advprop", "29043c08140d9c6ee7de1468d55923f2b06bcec2"}},
      {{"imagenet", "5d637466a5215de300a8ccb13a39357df2df2bf4"},
       {"advprop", "2e518b8b0955bbab467f50525578dab6b6086afc"}},
      {{"imagenet", "a96d4f0295ffbae18ebba173bf7f3c0c8f21990e"},
       {"advprop", "be788c20dfb0bbe83b4c439f9cfe0dd937c0783e"}},
      {{"imagenet", "074c54a6c473e0d294690d49cedb6cf463e7127d"},
       {"advprop", "9ccc166d87bd9c08d6bed4477638c7f4bb3eec78"}},
      {{"imagenet", "05cd5dde5dab658f00c463f9b9aa0ced76784f40"},
       {"advprop", "f04caa809ea4eb08ee9e7fd555f5514ebe2a9ef5"}},
      {{"imagenet", "69f4d28460a4e421b7860bc26ee7d832e03e01ca"},
       {"advprop", "dabe78fc8ab7ce93ddc2bb156b01db227caede88"}},
      {{"imagenet", "8570752016f7c62ae149cffa058550fe44e21c8b"},
       {"advprop", "c2dbb4d1359151165ec7b96cfe54a9cac2142a31"}},
      {{"imagenet", "5a5dbe687d612ebc3dca248274fd1191111deda6"},
       {"advprop", "ce33edb4e80c0cde268f098ae2299e23f615577d"}}};
  std::vector<EncoderEntry> out;
  for (size_t i = 0; i < revisions.size(); ++i) {
    const auto& size = kEfficientNetSizes[i];
    const auto name = text("efficientnet-", size.name);
    out.push_back(mobile_entry(name, efficientnet_summary(size), efficientnet_source(),
                               {.rows = kEfficientNetRows,
                                .width = size.width,
                                .depth = size.depth,
                                .style = {.names = MobileNames::kEfficientNetPytorch,
                                          .act = silu_of,
                                          .norm = {.eps = 1e-3, .momentum = 0.01},
                                          .padding = MobilePadding::kNominal},
                                .head = make_divisible(1280 * size.width, 8),
                                .stem_makes_map = true,
                                // As in the library: the other sizes end at the stage's end.
                                .fourth_map_after = i == 0 ? 9 : 0,
                                .numbers_stages = false,
                                .counts_one_level_more = true,
                                .nominal_size = size.image_size,
                                .start = MobileNetwork::Start::kTorch,
                                .drop_path_rate = 0.2,
                                .classifier = {"_fc."}},
                               smp_revisions(name, revisions[i])));
  }
  return out;
}

/// timm's networks as segmentation_models_pytorch took them over: with the stem's map, and with the
/// layers between blocks and classifier.
MobileNetwork as_smp_has_it(MobileNetwork n, int64_t head) {
  n.style.norm = {};
  n.style.padding = MobilePadding::kCentred;
  n.head = head;
  n.stem_makes_map = true;
  n.dilates_following = false;
  n.drop_path_rate = 0.2;
  n.classifier = {"classifier."};
  return n;
}

std::vector<std::vector<SmpRevision>> smp_timm_revisions() {
  return {{{"imagenet", "8419e9cc19da0b68dcd7bb12f19b7c92407ad7c4"},
           {"advprop", "a5870af2d24ce79e0cc7fae2bbd8e0a21fcfa6d8"},
           {"noisy-student", "bea8b0ff726a50e48774d2d360c5fb1ac4815836"}},
          {{"imagenet", "63bdd65ef6596ef24f1cadc7dd4f46b624442349"},
           {"advprop", "79b3d102080ef679b16c2748e608a871112233d0"},
           {"noisy-student", "36856124a699f6032574ceeefab02040daa90a9a"}},
          {{"imagenet", "e693adb39d3cb3847e71e3700a0c2aa58072cff1"},
           {"advprop", "b58479bf78007cfbb365091d64eeee369bddfa21"},
           {"noisy-student", "67c558827c6d3e0975ff9b4bce8557bc2ca80931"}},
          {{"imagenet", "1666b835b5151d6bb2067c7cd67e67ada6c39edf"},
           {"advprop", "70474cdb9f1ff4fcbd7434e66560ead1ab8e506b"},
           {"noisy-student", "2367bc9f61e79ee97684169a71a87db280bcf4db"}},
          {{"imagenet", "07868c28ab308f4de4cf1e7ec54b33b8b002ccdb"},
           {"advprop", "8ea1772ee9a2a0d18c1b56dce0dfac8dd33d537d"},
           {"noisy-student", "faeb77b6e8292a700380c840d39442d7ce4d6443"}},
          {{"imagenet", "004153b4ddd93d30afd9bbf34329d7f57396d413"},
           {"advprop", "1d1c5f05aab5ed9a1d5052847ddd4024c06a464d"},
           {"noisy-student", "9bc3a1e5490de92b1af061d5c2c474ab3129e38c"}},
          {{"imagenet", "dbbf28a5c33f021486db4070de693caad6b56c3d"},
           {"advprop", "3b5d3412047f7711c56ffde997911cfefe79f835"},
           {"noisy-student", "9b899ea9e8e0ce2ccada0f34a8cb8b5028e9bb36"}},
          {{"imagenet", "8ef7ffccf54dad9baceb21d05b7ef86b6b70f4cc"},
           {"advprop", "fcbc576ffb939c12d5cd8dad523fdae6eb0177ca"},
           {"noisy-student", "6b1dd73e61bf934d485d7bd4381dc3e2ab374664"}},
          {{"imagenet", "b5e9dde35605a3a6d17ea2a727382625f9066a37"},
           {"advprop", "e43f381de72e7467383c2c80bacbb7fcb9572866"}},
          {{"noisy-student", "cdc711e76d1becdd9197169f1a8bb1b2094e980c"},
           {"noisy-student-475", "35f5ba667a64bf4f3f0689daf84fc6d0f8e1311b"}}};
}

std::vector<EncoderEntry> smp_timm_efficientnets() {
  const auto revisions = smp_timm_revisions();
  const char* const lite_revisions[] = {
      "f5729249af07e5d923fb8b16922256ce2865d108", "7b5e3f8dbb0c13b74101773584bba7523721be72",
      "cc5f6cd4c7409ebacc13292f09d369ae88547f6a", "ab29c8402991591d66f813bbb1f061565d9b0cd0",
      "91a822e0f03c255b34dfb7846d3858397e50ba39"};
  std::vector<EncoderEntry> out;
  for (size_t i = 0; i < std::size(kEfficientNetSizes); ++i) {
    const auto& size = kEfficientNetSizes[i];
    const auto name = text("timm-efficientnet-", size.name);
    out.push_back(mobile_entry(
        name, efficientnet_summary(size), efficientnet_source(),
        as_smp_has_it(timm_efficientnet(size, false), make_divisible(1280 * size.width, 8)),
        smp_revisions(name, revisions[i])));
  }
  for (size_t i = 0; i < std::size(kEfficientNetLiteSizes); ++i) {
    const auto& size = kEfficientNetLiteSizes[i];
    const auto name = text("timm-tf_efficientnet_", size.name);
    out.push_back(mobile_entry(name, efficientnet_summary(size), efficientnet_source(),
                               as_smp_has_it(timm_efficientnet_lite(size), 1280),
                               {smp_weights(name, "imagenet", lite_revisions[i])}));
  }
  return out;
}

std::vector<EncoderEntry> efficientnet_encoders() {
  auto out = timm_efficientnets();
  for (auto* more : {&torchvision_efficientnets, &smp_efficientnets, &smp_timm_efficientnets}) {
    for (auto& entry : more()) out.push_back(std::move(entry));
  }
  return out;
}
SEG_REGISTER_ENCODERS(efficientnet_encoders);

}  // namespace
}  // namespace seg
