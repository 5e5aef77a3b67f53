// All encoders of the table: their names in docs/encoders.md, and every one under heads and
// decoders.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/profile/backbone_table.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/encoder_facts.hpp"
#include "tests/support/paths.hpp"

namespace seg::encoder_table_test {

using ::testing::HasSubstr;

TEST(EncoderTable, IsListedInTheDocs) {
  std::ifstream in(source_path("docs/encoders.md"));
  std::set<std::string> listed;
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with("| ") || line.starts_with("| name") || line.starts_with("| ---"))
      continue;
    listed.insert(line.substr(2, line.find(' ', 2) - 2));
  }
  const auto names = EncoderTable::instance().names();
  EXPECT_EQ(listed, std::set<std::string>(names.begin(), names.end()))
      << "docs/encoders.md is not what is registered: write it anew as its first lines say";
}

TEST(EncoderTable, CountsParametersAndArithmetic) {
  const auto rows = encoder_rows("vgg11_bn", 32);
  ASSERT_EQ(rows.size(), 3u);  // of three libraries
  const auto& vgg = rows[0];
  EXPECT_EQ(vgg.name, "tu-vgg11_bn");
  EXPECT_EQ(vgg.parameters, 9225984);  // torchvision's features
  EXPECT_EQ(vgg.weights, std::vector<std::string>{"imagenet"});
  const auto table = table_of(rows, 32);
  EXPECT_THAT(table, HasSubstr("| tu-vgg11_bn | 9.23 M | 0.15 G | 2, 4, 8, 16, 32 | 128, 256, 512, "
                               "512, 512 | imagenet |\n"));
}

// --- Pairs --------------------------------------------------------------------------------------

/// One small network of each family and library, and those with forms of their own.
std::vector<std::string> small_encoders() {
  return {"resnet18",
          "tu-resnet18d",
          "tu-cbam_resnet18",
          "tu-ecaresnetlight",
          "se_resnet50",
          "vgg11",
          "tu-vgg11_bn",
          "densenet121",
          "tv-googlenet",
          "bninception",
          "tu-inception_v3",
          "inceptionv4",
          "xception",
          "tu-xception41",
          "mobilenet_v2",
          "tu-mobilenetv1_100",
          "tu-mobilenetv2_050",
          "tu-mobilenetv3_small_050",
          "tu-mobilenetv4_conv_small_035",
          "tv-mobilenet_v3_small",
          "tv-shufflenet_v2_x0_5",
          "efficientnet-b0",
          "timm-efficientnet-b0",
          "tu-efficientnet_b0",
          "yolov5n",
          "yolov5n-dcn",
          "yolov8n",
          "yolov9t"};
}

std::string head_of(const std::string& options) {
  return "decode_head: {channels: 8, num_classes: 3, norm_cfg: {type: BN}, " + options + "}";
}

/// Heads of each way to take maps: the last, the last and a fine one, all, all through a neck.
std::vector<std::string> paired_heads() {
  const std::string all = "in_index: [0, 1, 2, 3]";
  return {head_of("type: FCNHead, num_convs: 1"),
          head_of("type: PSPHead, pool_scales: [1, 2]"),
          head_of("type: ASPPHead, dilations: [1, 2]"),
          head_of("type: DepthwiseSeparableASPPHead, dilations: [1, 2], c1_channels: 4"),
          head_of("type: NLHead"),
          head_of("type: GCHead"),
          head_of("type: ISAHead, isa_channels: 4"),
          head_of("type: UPerHead, pool_scales: [1, 2], " + all),
          head_of("type: SegformerHead, " + all),
          head_of("type: SegmentHead, scale_loss_weight: 0.4"),
          head_of("type: YOLOSegHead"),
          head_of("type: FusionHead, num_convs: 1"),
          "neck: {type: FPN, out_channels: 8, num_outs: 4}, " +
              head_of("type: FPNHead, feature_strides: [4, 8, 16, 32], " + all)};
}

std::vector<std::string> paired_decoders() {
  const std::string narrow = "decoder_channels: [16, 16, 8, 8, 8]";
  return {"type: Unet, " + narrow,
          "type: UnetPlusPlus, " + narrow,
          "type: MAnet, " + narrow,
          "type: Linknet",
          "type: FPN, decoder_pyramid_channels: 8, decoder_segmentation_channels: 32",
          "type: PSPNet, psp_out_channels: 16",
          "type: PAN, decoder_channels: 8",
          "type: DeepLabV3, decoder_channels: 8",
          "type: DeepLabV3Plus, decoder_channels: 8"};
}

/// Builds a model and runs it. \return why the config is refused, "" where it works.
std::string run_pair(const std::string& options, int64_t side) {
  SCOPED_TRACE(options);
  torch::manual_seed(0);
  std::shared_ptr<Segmentor> model;
  const std::string error =
      test::config_error([&] { model = Spec<Segmentor>::of("{" + options + "}").build(); });
  if (!model) return error;
  set_drop_probability(*model, 0);
  const auto losses = model->loss(torch::randn({2, 3, side, side}),
                                  torch::randint(0, 3, {2, side, side}, torch::kLong));
  total_loss(losses).backward();
  test::expect_gradients_where_trained(*model);
  model->eval();
  const torch::NoGradGuard no_grad;
  // Decoders that need whole strides say so of images at run time.
  const int64_t odd = options.find("encoder_name") == std::string::npos ? 11 : 32;
  EXPECT_EQ(model->encode_decode(torch::randn({1, 3, side + odd, side})).sizes(),
            at::IntArrayRef({1, 3, side + odd, side}));
  return "";
}

class EncoderPairs : public ::testing::TestWithParam<std::string> {};

TEST_P(EncoderPairs, TrainUnderEveryHeadAndDecoderOrAreRefused) {
  const std::string name = GetParam();
  const int64_t side = name.find("inception") == std::string::npos ? 64 : 128;
  for (const auto& head : paired_heads()) {
    EXPECT_EQ(
        run_pair("type: EncoderDecoder, backbone: {type: SmpEncoder, name: " + name + "}, " + head,
                 side),
        "");
  }
  const std::vector<std::string> reasons{
      "cannot be dilated to the output stride", "gives no map of stride 2",
      "does not pad its convolutions", "gives maps of the strides"};
  for (const auto& decoder : paired_decoders()) {
    // PAN halves the last map three times more.
    const int64_t least = decoder.starts_with("type: PAN") ? 256 : side;
    std::string refused;
    try {
      refused = run_pair(decoder + ", classes: 3, encoder_weights: null, encoder_name: " + name,
                         std::max(side, least));
    } catch (const std::exception& e) {
      ADD_FAILURE() << decoder << ": " << std::string(e.what()).substr(0, 200);
    }
    EXPECT_TRUE(
        refused.empty() ||
        std::ranges::any_of(
            reasons, [&](const auto& reason) { return refused.find(reason) != std::string::npos; }))
        << decoder << ": " << refused;
  }
}

INSTANTIATE_TEST_SUITE_P(Small, EncoderPairs, ::testing::ValuesIn(small_encoders()),
                         [](const auto& tested) {
                           std::string out = tested.param;
                           std::ranges::replace_if(
                               out, [](unsigned char c) { return !std::isalnum(c); }, '_');
                           return out;
                         });

}  // namespace seg::encoder_table_test
