#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "segcore/models/backbones/resnet.hpp"
#include "segcore/testing/reference_values.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/encoder_facts.hpp"

namespace seg {
namespace {

using ::testing::HasSubstr;

std::shared_ptr<Backbone> resnet_of(const std::string& yaml) {
  return Spec<Backbone>::of(yaml).build();
}

std::string resnet_error(const std::string& yaml) {
  try {
    resnet_of(yaml);
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

int64_t resnet_count(const torch::nn::Module& module) {
  int64_t count = 0;
  for (const auto& p : module.parameters()) count += p.numel();
  return count;
}

TEST(ResNet, HasTheParametersOfTheOriginals) {
  // Those of torchvision without the classifier of 1000 classes.
  EXPECT_EQ(resnet_count(*resnet_of("{type: ResNet, depth: 18}")), 11689512 - 513000);
  EXPECT_EQ(resnet_count(*resnet_of("{type: ResNet, depth: 34}")), 21797672 - 513000);
  EXPECT_EQ(resnet_count(*resnet_of("{type: ResNet, depth: 50}")), 25557032 - 2049000);
}

TEST(ResNet, DescribesItsMaps) {
  const auto net = resnet_of(
      "{type: ResNetV1c, depth: 18, base_channels: 8, stem_channels: 8, dilations: [1, 1, 2, 4], "
      "strides: [1, 2, 1, 1], out_indices: [0, 2, 3], contract_dilation: true}");
  const auto maps = net->forward(torch::zeros({2, 3, 33, 47}));
  const auto features = net->features();
  ASSERT_EQ(features.size(), 3u);
  const int64_t widths[] = {8, 32, 64}, strides[] = {4, 8, 8};
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(features[i].channels, widths[i]);
    EXPECT_EQ(features[i].stride, strides[i]);
    EXPECT_EQ(maps[i].size(1), widths[i]);
    EXPECT_EQ(maps[i].size(2), (33 + strides[i] - 1) / strides[i]);
    EXPECT_EQ(maps[i].size(3), (47 + strides[i] - 1) / strides[i]);
  }
}

TEST(ResNet, FreezesStages) {
  const auto net = resnet_of(
      "{type: ResNet, depth: 18, base_channels: 8, stem_channels: 8, "
      "frozen_stages: 1}");
  net->train();
  for (const auto& item : net->named_parameters()) {
    const bool frozen = item.key().starts_with("conv1") || item.key().starts_with("bn1") ||
                        item.key().starts_with("layer1");
    EXPECT_EQ(item.value().requires_grad(), !frozen) << item.key();
  }
  for (const auto& item : net->named_modules()) {
    if (item.key().find("bn") == std::string::npos) continue;
    const bool frozen = item.key() == "bn1" || item.key().starts_with("layer1");
    EXPECT_EQ(item.value()->is_training(), !frozen) << item.key();
  }
}

TEST(ResNet, NormEvalKeepsRunningStatistics) {
  const auto net =
      resnet_of("{type: ResNet, depth: 18, base_channels: 8, stem_channels: 8, norm_eval: true}");
  net->train();
  const auto before = net->named_buffers()["bn1.running_mean"].clone();
  net->forward(torch::rand({2, 3, 32, 32}));
  EXPECT_TRUE(torch::equal(net->named_buffers()["bn1.running_mean"], before));
}

/// Gradients of all parameters and of the image, in training.
std::vector<torch::Tensor> resnet_gradients(const std::string& yaml) {
  const auto net = resnet_of(yaml);
  reference::fill(*net, 1);
  net->to(torch::kFloat64);
  net->train();
  auto x = reference::image({2, 3, 32, 32}).requires_grad_();
  torch::Tensor sum;
  for (const auto& map : net->forward(x)) {
    sum = sum.defined() ? sum + map.square().mean() : map.square().mean();
  }
  sum.backward();
  std::vector<torch::Tensor> out{x.grad()};
  for (const auto& p : net->parameters()) out.push_back(p.grad());
  return out;
}

TEST(ResNet, RecomputationGivesTheSameGradients) {
  for (const std::string depth : {"18", "50"}) {
    const std::string options = "type: ResNet, base_channels: 4, stem_channels: 4, depth: " + depth;
    const auto plain = resnet_gradients("{" + options + "}");
    const auto again = resnet_gradients("{with_cp: true, " + options + "}");
    ASSERT_EQ(plain.size(), again.size());
    for (size_t i = 0; i < plain.size(); ++i) {
      EXPECT_TRUE(torch::allclose(plain[i], again[i], 1e-9, 1e-12)) << i;
    }
  }
}

TEST(ResNet, PutsPluginsIntoBlocks) {
  const auto net = resnet_of(
      "{type: ResNet, depth: 50, base_channels: 8, stem_channels: 8, plugins: ["
      "{cfg: {type: ContextBlock, ratio: 0.25}, stages: [false, true, false, false], "
      "position: after_conv3}, "
      "{cfg: {type: NonLocal2d, postfix: _a}, stages: [false, false, false, true], "
      "position: after_conv2}]}");
  const auto names = net->named_parameters();
  EXPECT_TRUE(names.contains("layer2.0.context_block.conv_mask.weight"));
  EXPECT_TRUE(names.contains("layer2.3.context_block.channel_add_conv.1.weight"));
  EXPECT_FALSE(names.contains("layer1.0.context_block.conv_mask.weight"));
  EXPECT_TRUE(names.contains("layer4.2.nonlocal_block_a.theta.conv.weight"));
  net->eval();
  EXPECT_EQ(net->forward(torch::zeros({1, 3, 32, 32})).size(), 4u);
}

TEST(ResNet, DeformsAsPython) {
  at::set_num_threads(1);
  std::string built;
  std::vector<torch::Tensor> maps;
  for (const auto& row : test::encoder_table_rows("deformable_maps.tsv")) {
    SCOPED_TRACE(row[0] + ", map " + row[4]);
    if (built != row[0]) {
      built = row[0];
      const auto net = resnet_of(row[0]);
      EXPECT_EQ(test::state_digest(*net), row[1]);
      reference::fill(*net, 1);
      net->to(torch::kFloat64);
      net->eval();
      const auto image =
          reference::image({1, 3, std::stoll(row[2]), std::stoll(row[3])}).requires_grad_();
      maps = net->forward(image);
      torch::Tensor sum = torch::zeros({});
      for (const auto& map : maps) sum = sum + map.square().mean();
      sum.backward();
      maps.push_back(image.grad());
    }
    test::expect_map(maps.at(std::stoul(row[4])).detach(), row, 5);
  }
  EXPECT_FALSE(built.empty());
}

TEST(ResNet, BeginsWithoutOffsets) {
  for (const std::string type : {"ResNet", "ResNeXt", "ResNeSt"}) {
    SCOPED_TRACE(type);
    const auto net = resnet_of(
        "{depth: 50, base_channels: 8, stem_channels: 8, dcn: {type: DCN, deform_groups: 2}, "
        "zero_init_residual: false, "
        "stage_with_dcn: [false, false, false, true], type: " +
        type + "}");
    net->initialize();
    const auto tensors = net->named_parameters();
    const std::string conv = type == "ResNeSt" ? "layer4.2.conv2.conv." : "layer4.2.conv2.";
    EXPECT_EQ(tensors[conv + "conv_offset.weight"].abs().max().item<double>(), 0);
    EXPECT_EQ(tensors[conv + "conv_offset.weight"].size(0), 2 * 2 * 9);
    EXPECT_GT(tensors[conv + "weight"].abs().max().item<double>(), 0);
    EXPECT_FALSE(tensors.contains("layer3.0.conv2.conv_offset.weight"));
    const auto maps = net->forward(torch::randn({2, 3, 64, 64}));
    maps.back().sum().backward();
    EXPECT_GT(
        net->named_parameters()[conv + "conv_offset.weight"].grad().abs().max().item<double>(), 0);
  }
}

TEST(ResNet, BeginsWithResidualsOfZero) {
  const auto net = resnet_of("{type: ResNet, depth: 18, base_channels: 8, stem_channels: 8}");
  net->init_weights();
  const auto names = net->named_parameters();
  EXPECT_EQ(names["layer1.0.bn2.weight"].abs().sum().item<double>(), 0.0);
  EXPECT_EQ(names["layer1.0.bn1.weight"].min().item<double>(), 1.0);
  const auto& conv = names["layer4.1.conv2.weight"];  // Kaiming by the fan out: 64 * 9
  EXPECT_NEAR(conv.std().item<double>(), std::sqrt(2.0 / (64 * 9)), 0.003);
}

TEST(ResNet, ReportsWrongOptions) {
  EXPECT_THAT(resnet_error("{type: ResNet, depth: 51}"),
              HasSubstr("depth: must be one of 18, 34, 50, 101, 152, got 51"));
  EXPECT_THAT(resnet_error("{type: ResNet, depth: 50, strides: [1, 2]}"),
              HasSubstr("strides: has 2 values, but num_stages is 4"));
  EXPECT_THAT(resnet_error("{type: ResNet, depth: 50, num_stages: 3, strides: [1, 2, 2], "
                           "dilations: [1, 1, 1]}"),
              HasSubstr("out_indices: names stage 3 of 3"));
  EXPECT_THAT(resnet_error("{type: ResNet, depth: 18, dcn: {type: DCN}}"),
              HasSubstr("dcn: fits only the blocks of depth 50 and more, not 18"));
  EXPECT_THAT(resnet_error("{type: ResNet, depth: 50, dcn: {type: DCNv4}}"),
              HasSubstr("dcn.type: unknown value 'DCNv4'."));
  EXPECT_THAT(resnet_error("{type: ResNet, depth: 50, dcn: {type: DCN}, stage_with_dcn: [true]}"),
              HasSubstr("stage_with_dcn: has 1 values, but num_stages is 4"));
  const std::string deforms = "depth: 50, stage_with_dcn: [false, true, true, true], dcn: ";
  EXPECT_THAT(resnet_error("{type: ResNet, conv_cfg: {type: Conv2d}, " + deforms + "{type: DCN}}"),
              HasSubstr("conv_cfg: must be null with dcn"));
  EXPECT_THAT(test::spec_warnings<Backbone>("{type: ResNet, depth: 50, dcn: {type: DCN}}"),
              HasSubstr("dcn: has no effect: stage_with_dcn names no stage"));
  EXPECT_THAT(test::spec_warnings<Backbone>("{type: ResNet, " + deforms + "null}"),
              HasSubstr("stage_with_dcn: has no effect without dcn"));
  EXPECT_THAT(test::spec_warnings<Backbone>("{type: ResNeXt, " + deforms +
                                            "{type: DCN, fallback_on_stride: true}}"),
              HasSubstr("dcn: fallback_on_stride has no effect: as in MMSegmentation, only ResNet "
                        "itself heeds it"));
  EXPECT_THAT(resnet_error("{type: ResNetV1c, depth: 50, deep_stem: true}"),
              HasSubstr("ResNetV1c has no option 'deep_stem'"));
  EXPECT_THAT(resnet_error("{type: ResNet, depth: 50, multi_grid: [1, 2]}"),
              HasSubstr("multi_grid: has 2 values, but the last stage has 3 blocks"));
}

}  // namespace
}  // namespace seg
