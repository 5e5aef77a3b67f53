/// BiSeNet, Fast-SCNN, CGNet, ERFNet, ICNet, DDRNet and PIDNet: what no fixture shows.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "segcore/models/backbone.hpp"
#include "segcore/models/decode_head.hpp"
#include "segcore/models/neck.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"

namespace seg::real_time_test {

using ::testing::HasSubstr;

const std::string kSmallResNet =
    "{type: ResNetV1c, depth: 18, base_channels: 8, stem_channels: 8, dilations: [1, 1, 2, 4], "
    "strides: [1, 2, 1, 1]}";
const std::string kBiSeNetV1 =
    "type: BiSeNetV1, backbone_cfg: {type: ResNet, depth: 18, base_channels: 8, stem_channels: 8}, "
    "spatial_channels: [4, 4, 4, 24], context_channels: [8, 32, 64], out_channels: 12";
const std::string kBiSeNetV2 =
    "type: BiSeNetV2, detail_channels: [4, 8, 16], semantic_channels: [4, 6, 8, 16], bga_channels: "
    "16";
const std::string kPIDLosses =
    "loss_decode: [{type: CrossEntropyLoss}, {type: OhemCrossEntropy}, {type: BoundaryLoss}, "
    "{type: OhemCrossEntropy}]";
const std::string kDDRLosses = "loss_decode: [{type: CrossEntropyLoss}, {type: CrossEntropyLoss}]";

std::shared_ptr<Backbone> network(const std::string& yaml) {
  torch::manual_seed(0);
  return Spec<Backbone>::of("{" + yaml + "}").build();
}

std::string network_error(const std::string& yaml) {
  return test::config_error([&] { network(yaml); });
}

std::string head_error(const std::string& yaml, const std::vector<FeatureInfo>& inputs) {
  return test::config_error(
      [&] { Spec<DecodeHead>::of("{channels: 4, num_classes: 3, " + yaml + "}").build(inputs); });
}

TEST(RealTimeNetworks, DescribeTheirMaps) {
  const torch::NoGradGuard no_grad;
  const std::vector<std::string> networks{
      kBiSeNetV1,
      kBiSeNetV1 + ", out_indices: [2, 0]",
      kBiSeNetV2,
      kBiSeNetV2 + ", out_indices: [4, 0]",
      "type: FastSCNN, out_indices: [2, 1, 0]",
      "type: FastSCNN, global_block_strides: [1, 2, 1]",
      "type: CGNet, num_blocks: [1, 2]",
      "type: ERFNet",
      "type: DDRNet, channels: 8, ppm_channels: 8",
      "type: PIDNet, channels: 8, ppm_channels: 8",
      "type: PIDNet, channels: 8, ppm_channels: 8, num_stem_blocks: 3",
  };
  for (const auto& yaml : networks) {
    const auto net = network(yaml);
    net->eval();
    const auto maps = net->forward(torch::randn({1, 3, 64, 128}));
    const auto infos = net->features();
    ASSERT_EQ(maps.size(), infos.size()) << yaml;
    for (size_t i = 0; i < maps.size(); ++i) {
      const int64_t stride = infos[i].stride;
      EXPECT_EQ(maps[i].sizes(),
                (std::vector<int64_t>{1, infos[i].channels, 64 / stride, 128 / stride}))
          << yaml << ", map " << i;
    }
  }
}

TEST(RealTimeNetworks, TakeImagesOfAnySize) {
  const torch::NoGradGuard no_grad;
  for (const std::string& yaml :
       {kBiSeNetV1, kBiSeNetV2, std::string("type: FastSCNN"), std::string("type: CGNet"),
        std::string("type: DDRNet, channels: 8, ppm_channels: 8"),
        std::string("type: PIDNet, channels: 8, ppm_channels: 8"),
        std::string("type: PIDNet, channels: 8, ppm_channels: 8, num_stem_blocks: 3")}) {
    const auto net = network(yaml);
    net->eval();
    const auto maps = net->forward(torch::randn({1, 3, 67, 93}));
    const auto infos = net->features();
    for (size_t i = 0; i < maps.size(); ++i) {
      EXPECT_EQ(maps[i].size(2), (67 + infos[i].stride - 1) / infos[i].stride) << yaml;
      EXPECT_EQ(maps[i].size(3), (93 + infos[i].stride - 1) / infos[i].stride) << yaml;
    }
  }
}

TEST(RealTimeNetworks, NameWidthsThatDoNotFit) {
  EXPECT_THAT(network_error("type: BiSeNetV1, backbone_cfg: {type: ResNet, depth: 50}"),
              HasSubstr("error: context_channels: ends in 256, 512, but the last maps of "
                        "backbone_cfg have 1024 and 2048 channels\n"));
  EXPECT_THAT(network_error("type: BiSeNetV1, backbone_cfg: {type: ResNet, depth: 18}, "
                            "spatial_channels: [64, 64, 64, 64]"),
              HasSubstr("error: spatial_channels: the last, 64, and the first of context_channels, "
                        "128, must add up to the second of context_channels, 256\n"));
  EXPECT_THAT(network_error("type: BiSeNetV1, backbone_cfg: {type: ResNet, depth: 18, out_indices: "
                            "[1, 2, 3]}"),
              HasSubstr("error: backbone_cfg: must give 4 maps, but gives 3\n"));
  EXPECT_THAT(network_error("type: BiSeNetV2, detail_channels: [8, 16]"),
              HasSubstr("error: semantic_channels: needs one value more than detail_channels, "
                        "which has 2; got 4\n"));
  EXPECT_THAT(network_error("type: BiSeNetV2, bga_channels: 64"),
              HasSubstr("error: bga_channels: must be the last of detail_channels, 128, and of "
                        "semantic_channels, 128; got 64\n"));
  EXPECT_THAT(network_error("type: BiSeNetV2, out_indices: [5]"),
              HasSubstr("error: out_indices: there is no map 5: the last is 4\n"));
  EXPECT_THAT(network_error("type: FastSCNN, global_in_channels: 32"),
              HasSubstr("error: higher_in_channels: must be global_in_channels, 32; got 64\n"));
  EXPECT_THAT(network_error("type: FastSCNN, global_out_channels: 64"),
              HasSubstr("error: lower_in_channels: must be global_out_channels, 64; got 128\n"));
  EXPECT_THAT(network_error("type: FastSCNN, global_block_channels: [64, 96, 90]"),
              HasSubstr("error: global_block_channels: the last, whose quarters are the pooled "
                        "maps, must be a multiple of 4, got 90\n"));
  EXPECT_THAT(
      network_error("type: FastSCNN, fusion_out_channels: 96"),
      HasSubstr("error: fusion_out_channels: must divide lower_in_channels, 128; got 96\n"));
  EXPECT_THAT(network_error("type: FastSCNN, dw_act_cfg: none"),
              HasSubstr("error: dw_act_cfg: must be a mapping, null or 'default', got 'none'\n"));
  EXPECT_THAT(
      network_error("type: CGNet, reductions: [8, 256]"),
      HasSubstr("error: reductions: must be at most the width of the stage, 128; got 256\n"));
  EXPECT_THAT(network_error("type: CGNet, num_channels: [32, 63, 128]"),
              HasSubstr("error: num_channels: widths of stages must be even, got 63\n"));
  EXPECT_THAT(network_error("type: ERFNet, enc_stage_non_bottlenecks: [5, 6]"),
              HasSubstr("error: enc_non_bottleneck_dilations: must have a number of values that "
                        "divides the last of enc_stage_non_bottlenecks, got 4\n"));
  EXPECT_THAT(network_error("type: ERFNet, dec_upsample_channels: [64]"),
              HasSubstr("error: dec_upsample_channels: needs one value less than "
                        "enc_downsample_channels, 2; got 1\n"));
  EXPECT_THAT(network_error("type: ERFNet, in_channels: 16"),
              HasSubstr("error: enc_downsample_channels: each stage must be wider than what it "
                        "takes, got 16 after 16\n"));
}

TEST(ICNet, RunsTheStagesOfAResidualNetwork) {
  EXPECT_THAT(network_error("type: ICNet, backbone_cfg: {type: CGNet}"),
              HasSubstr("error: backbone_cfg: must be a residual network, whose stages run on "
                        "images of several sizes; CGNet is not\n"));
  EXPECT_THAT(network_error("type: ICNet, backbone_cfg: {type: ResNetV1c, depth: 18, num_stages: "
                            "3, strides: [1, 2, 1], dilations: [1, 1, 1], out_indices: [0]}"),
              HasSubstr("error: backbone_cfg: must have 4 stages, but has 3\n"));
  EXPECT_THAT(
      network_error("type: ICNet, layer_channels: [512, 2048], backbone_cfg: " + kSmallResNet),
      HasSubstr("error: layer_channels: is [512, 2048], but stages 2 and 4 of backbone_cfg "
                "have [16, 64] channels. Leave it out to take what they have\n"));
  // What the network itself would return does not matter.
  const auto net = network(
      "type: ICNet, psp_out_channels: 8, backbone_cfg: {type: ResNet, depth: "
      "18, base_channels: 8, stem_channels: 8, out_indices: [0]}");
  net->eval();
  const auto maps = net->forward(torch::randn({1, 3, 128, 128}));
  const auto infos = net->features();
  ASSERT_EQ(maps.size(), 3u);
  // The pooling of the stem rounds up: 128 / 4 / 2 + 1 = 17, then 9 and 4, and twice halved again.
  const int64_t sides[] = {16, 9, 1}, strides[] = {8, 16, 128};
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(infos[i].stride, strides[i]);
    EXPECT_EQ(maps[i].sizes(), (std::vector<int64_t>{1, infos[i].channels, sides[i], sides[i]}));
  }
}

TEST(ICNeck, JoinsThreeMaps) {
  const auto neck = Spec<Neck>::of("{type: ICNeck, out_channels: 4}");
  EXPECT_THAT(test::config_error([&] {
                neck.build(std::vector<FeatureInfo>{{8, 8}, {8, 16}});
              }),
              HasSubstr("error: type: ICNeck joins 3 maps; the backbone gives 2\n"));
  const auto built = neck.build(std::vector<FeatureInfo>{{8, 8}, {6, 16}, {4, 32}});
  const auto infos = built->features();
  ASSERT_EQ(infos.size(), 3u);
  EXPECT_EQ(infos[0].stride, 16);
  EXPECT_EQ(infos[1].stride, 8);
  EXPECT_EQ(infos[2].stride, 8);
}

TEST(CGNet, SlopesBeginAtZeroOneForEachChannel) {
  const auto net = network(
      "type: CGNet, num_blocks: [1, 2], act_cfg: {type: PReLU, "
      "num_parameters: 1}");
  net->init_weights();
  const auto parameters = net->named_parameters();
  for (const char* name : {"stem.0.activate.weight", "level2.1.conv1x1.activate.weight",
                           "level1.0.activate.weight", "norm_prelu_1.1.weight"}) {
    EXPECT_EQ(parameters[name].abs().max().item<double>(), 0) << name;
  }
  EXPECT_EQ(parameters["stem.0.activate.weight"].numel(), 32);
  EXPECT_EQ(parameters["level2.1.conv1x1.activate.weight"].numel(), 64);
  // Of Kaiming's rule with the fan out; PyTorch's own is uniform with the fan in.
  const auto linear = parameters["level2.0.f_glo.fc.2.weight"];  // [128, 8]
  EXPECT_NEAR(linear.std().item<double>(), std::sqrt(2.0 / 128), 0.01);
}

TEST(PIDNet, HasSynchronisedNormsWhereMMSegmentationHas) {
  const auto net = network("type: PIDNet, channels: 8, ppm_channels: 8, norm_cfg: {type: SyncBN}");
  const auto modules = net->named_modules();
  const auto name = [&](const std::string& path) { return layer_names(*modules[path]).front(); };
  EXPECT_EQ(name("stem.0.bn"), "SyncBatchNorm");
  EXPECT_EQ(name("i_branch_layers.0.0.downsample.bn"), "SyncBatchNorm");
  EXPECT_EQ(name("i_branch_layers.0.1.conv1.bn"), "BatchNorm2d");
  EXPECT_EQ(name("pag_1.f_i.bn"), "BatchNorm2d");
  EXPECT_EQ(name("spp.scales.0.bn"), "BatchNorm2d");
  EXPECT_EQ(name("dfm.f_p.bn"), "SyncBatchNorm");
}

TEST(DDRNet, HasSynchronisedNormsWhereMMSegmentationHas) {
  const auto net = network("type: DDRNet, channels: 8, ppm_channels: 8, norm_cfg: {type: SyncBN}");
  const auto modules = net->named_modules();
  const auto name = [&](const std::string& path) { return layer_names(*modules[path]).front(); };
  EXPECT_EQ(name("stem.2.0.conv1.bn"), "BatchNorm2d");
  EXPECT_EQ(name("stem.2.1.conv1.bn"), "SyncBatchNorm");
  EXPECT_EQ(name("stem.4.0.downsample.1"), "SyncBatchNorm");
  EXPECT_EQ(name("spp.scales.0.bn"), "BatchNorm2d");
}

TEST(PIDNet, BeginsWithKaimingsNormal) {
  const auto net = network("type: PIDNet, channels: 16, ppm_channels: 16");
  net->init_weights();
  const auto weight = net->named_parameters()["i_branch_layers.1.0.conv2.conv.weight"];
  EXPECT_NEAR(weight.std().item<double>(), std::sqrt(2.0 / (9 * 128)), 1e-3);
  const auto head =
      Spec<DecodeHead>::of("{type: PIDHead, channels: 64, num_classes: 3, " + kPIDLosses + "}")
          .build(net->features());
  head->init_weights();
  // Not the small deviation of other heads, and biases keep their first values.
  EXPECT_NEAR(head->conv_seg()->weight.std().item<double>(), std::sqrt(2.0 / 3), 0.1);
  EXPECT_GT(head->conv_seg()->bias.abs().max().item<double>(), 0);
}

TEST(HeadsOfBranches, NameWhatTheyNeed) {
  const std::vector<FeatureInfo> two{{8, 8}, {16, 8}}, three{{8, 8}, {8, 8}, {16, 8}};
  EXPECT_THAT(head_error("type: DDRHead", two),
              HasSubstr("error: loss_decode: must be a list of 2 losses, of the joined map, of the "
                        "detail branch's\n"));
  EXPECT_THAT(head_error("type: PIDHead, " + kDDRLosses, three),
              HasSubstr("error: loss_decode: must be a list of 4 losses, of the detail branch's "
                        "map, of the joined map, of the boundaries, of the joined map near "
                        "boundaries\n"));
  EXPECT_THAT(head_error("type: DDRHead, in_index: 0, " + kDDRLosses, two),
              HasSubstr("error: in_index: must be left out: the head takes all maps of the "
                        "backbone\n"));
  EXPECT_THAT(head_error("type: PIDHead, ignore_index: null, " + kPIDLosses, three),
              HasSubstr("error: ignore_index: must be a label: it replaces those far from "
                        "boundaries\n"));
  EXPECT_THAT(head_error("type: DDRHead, norm_cfg: null, " + kDDRLosses, two),
              HasSubstr("error: norm_cfg: must not be null: the head begins with a norm\n"));
  EXPECT_THAT(head_error("type: DDRHead, act_cfg: null, " + kDDRLosses, two),
              HasSubstr("error: act_cfg: must not be null: it follows the norms\n"));
  EXPECT_THAT(head_error("type: DDRHead, " + kDDRLosses, three),
              HasSubstr("error: type: DDRHead takes 2 maps, the last twice as wide as the others; "
                        "the backbone gives [8, 8, 16] channels\n"));
  EXPECT_THAT(head_error("type: PIDHead, " + kPIDLosses, {{8, 8}, {16, 8}, {16, 8}}),
              HasSubstr("error: type: PIDHead takes 3 maps, the last twice as wide as the others; "
                        "the backbone gives [8, 16, 16] channels\n"));
  EXPECT_THAT(head_error("type: PIDHead, loss_decode: [{type: CrossEntropyLoss}, {type: "
                         "OhemCrossEntropy}, {type: BoundaryLoss}, {type: BoundaryLoss}]",
                         three),
              HasSubstr("needs 1 channel, got 3"));
}

TEST(PIDHead, NamesTheStepThatMakesBoundaries) {
  const auto model = Spec<Segmentor>::of(
                         "{type: EncoderDecoder, backbone: {type: PIDNet, channels: 8, "
                         "ppm_channels: 8}, decode_head: {type: PIDHead, channels: 4, "
                         "num_classes: 3, " +
                         kPIDLosses + "}}")
                         .build();
  const auto images = torch::randn({2, 3, 64, 64});
  const auto labels = torch::zeros({2, 64, 64}, torch::kLong);
  try {
    model->loss(images, Targets(labels));
    FAIL() << "no error";
  } catch (const DataError& e) {
    EXPECT_STREQ(e.what(),
                 "PIDHead learns from maps of boundaries, which the samples lack: put a {type: "
                 "GenerateEdge, edge_width: 4} before the PackSegInputs of the training pipeline");
  }
  EXPECT_EQ(model->loss(images, Targets(labels, labels)).size(), 5u);
}

}  // namespace seg::real_time_test
