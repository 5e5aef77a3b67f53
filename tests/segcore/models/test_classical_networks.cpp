// ENet, SegNet, FCN, DeepLab v1 and v2, RefineNet and U-Nets: numbers of their papers, and small
// cases by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "segcore/models/backbone.hpp"
#include "segcore/models/blocks/unpool.hpp"
#include "segcore/models/decode_head.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"

namespace seg::classical_test {

using ::testing::HasSubstr;

std::shared_ptr<Segmentor> classical(const std::string& options) {
  torch::manual_seed(0);
  return Spec<Segmentor>::of("{type: EncoderDecoder, " + options + "}").build();
}

std::shared_ptr<Backbone> classical_backbone(const std::string& options) {
  torch::manual_seed(0);
  return Spec<Backbone>::of("{" + options + "}").build();
}

std::string backbone_error(const std::string& options) {
  return test::config_error([&] { classical_backbone(options); });
}

int64_t parameters_of(const torch::nn::Module& module) {
  int64_t out = 0;
  for (const auto& parameter : module.parameters()) out += parameter.numel();
  return out;
}

/// A step with all parameters, and a prediction of an image of odd sides.
void expect_trains(const std::string& options, int64_t side = 64) {
  SCOPED_TRACE(options);
  const auto model = classical(options);
  model->init_weights();
  set_drop_probability(*model, 0);
  const auto images = torch::randn({2, 3, side, side});
  const auto labels = torch::randint(0, 3, {2, side, side}, torch::kLong);
  const auto before = total_loss(model->loss(images, labels));
  before.backward();
  {
    const torch::NoGradGuard no_grad;
    for (const auto& item : model->named_parameters()) {
      ASSERT_EQ(item.value().requires_grad(), item.value().grad().defined()) << item.key();
      if (item.value().requires_grad()) item.value().sub_(item.value().grad(), 1e-3);
    }
  }
  EXPECT_LT(total_loss(model->loss(images, labels)).item<double>(), before.item<double>());
  model->eval();
  const torch::NoGradGuard no_grad;
  EXPECT_EQ(model->encode_decode(torch::randn({1, 3, side + 5, side + 2})).sizes(),
            at::IntArrayRef({1, 3, side + 5, side + 2}));
}

// --- Pooling with places ------------------------------------------------------------------------

TEST(Unpool, PutsEachMaximumBack) {
  const auto x = torch::tensor({1., 2., 3., 4., 5., 6., 9., 8., 7.}).view({1, 1, 3, 3});
  const auto pooled = pool_with_places(x);
  // 1 2 | 3        5 6
  // 4 5 | 6   ->   9 7
  // 9 8 | 7
  EXPECT_TRUE(torch::equal(pooled.values.flatten(), torch::tensor({5., 6., 9., 7.})));
  EXPECT_TRUE(torch::equal(pooled.places.flatten(), torch::tensor({4, 5, 6, 8}, torch::kLong)));
  const auto back = unpool(pooled.values * 10, pooled.places, {3, 3});
  EXPECT_TRUE(
      torch::equal(back.flatten(), torch::tensor({0., 0., 0., 0., 50., 60., 90., 0., 70.})));
}

TEST(Unpool, TakesAsManyChannelsAsItIsGiven) {
  const auto pooled = pool_with_places(torch::arange(32.).view({1, 2, 4, 4}));
  const auto one = unpool(pooled.values.narrow(1, 0, 1), pooled.places, {4, 4});
  EXPECT_EQ(one.sizes(), at::IntArrayRef({1, 1, 4, 4}));
  EXPECT_EQ(one.sum().item<double>(), 5 + 7 + 13 + 15);
}

// --- Parameters of the papers' tables -----------------------------------------------------------

TEST(ClassicalNetworks, HaveTheParametersOfTheirPapers) {
  struct Case {
    const char* options;
    double millions, tolerance;
  };
  const std::vector<Case> cases{
      // Table 5 of arXiv:1606.02147 says 0.37 M.
      {"backbone: {type: ENet}, decode_head: {type: ClassifierHead, kernel_size: 2, stride: 2, "
       "num_classes: 19}",
       0.36, 0.01},
      // Table 6 of arXiv:1511.00561 says 29.45 M.
      {"backbone: {type: SegNet}, decode_head: {type: ClassifierHead, kernel_size: 3, num_classes: "
       "11}",
       29.45, 0.01},
      // The fully connected layers have 102.8 M and 16.8 M of them.
      {"backbone: {type: VGG, out_indices: [2, 3, 4]}, decode_head: {type: FCNSkipHead, in_index: "
       "[0, 1, 2], num_classes: 21}",
       134.36, 0.01},
      // Table 1 of arXiv:1412.7062 says 20.5 M for LargeFOV.
      {"backbone: {type: VGG, strides: [2, 2, 2, 1, 1], dilations: [1, 1, 1, 1, 2], out_indices: "
       "[4]}, decode_head: {type: DeepLabHead, channels: 1024, dilations: [12], num_classes: 21}",
       20.5, 0.05},
      // arXiv:1810.03272, table 1, says 118 M of RefineNet-101.
      {"backbone: {type: ResNet, depth: 101}, decode_head: {type: RefineNetHead, num_classes: 21}",
       118, 0.5},
  };
  for (const auto& c : cases) {
    EXPECT_NEAR(static_cast<double>(parameters_of(*classical(c.options))) / 1e6, c.millions,
                c.tolerance)
        << c.options;
  }
}

TEST(ClassicalNetworks, DeepLabV2OnResNetAddsFourConvolutions) {
  // 2048 channels, 3x3, 21 classes and their biases, four times.
  const auto head = Spec<DecodeHead>::of("{type: DeepLabHead, num_classes: 21}")
                        .build(std::vector<FeatureInfo>{{2048, 8}});
  EXPECT_EQ(parameters_of(*head), 4 * (2048 * 9 * 21 + 21));
}

TEST(ClassicalNetworks, ENetHasTheLayersOfItsTable) {
  // Table 1 of arXiv:1606.02147 for 512x512: 16 x 256^2, 64 x 128^2, 128 x 64^2, 16 x 256^2.
  const torch::NoGradGuard no_grad;
  const auto enet = classical_backbone("type: ENet");
  enet->eval();
  const auto maps = enet->forward(torch::randn({1, 3, 64, 64}));
  ASSERT_EQ(maps.size(), 1u);
  EXPECT_EQ(maps[0].sizes(), at::IntArrayRef({1, 16, 32, 32}));
  std::vector<std::string> blocks;
  for (const auto& child : enet->named_children()) blocks.push_back(child.key());
  EXPECT_EQ(blocks.size(), 1u + 1 + 4 + 1 + 8 + 8 + 1 + 2 + 1 + 1);
  // A quarter of 128 channels: 1x1 to 32, 5x1 and 1x5, 1x1 back.
  const auto all = enet->named_parameters();
  EXPECT_EQ(all["stage2_3.branch.3.weight"].sizes(), at::IntArrayRef({32, 32, 5, 1}));
  EXPECT_EQ(all["stage2_3.branch.4.weight"].sizes(), at::IntArrayRef({32, 32, 1, 5}));
  EXPECT_EQ(all["down2.branch.1.weight"].sizes(), at::IntArrayRef({16, 64, 2, 2}));
  // The encoder's activations have a slope for each channel; the decoder's have none.
  EXPECT_TRUE(all.contains("stage3_8.act.weight"));
  EXPECT_FALSE(all.contains("up4.act.weight"));
}

TEST(ClassicalNetworks, SegNetTakesTorchvisionsNames) {
  const auto segnet = classical_backbone("type: SegNet");
  const auto all = segnet->named_parameters();
  EXPECT_TRUE(all.contains("features.41.weight"));  // the last batch norm of vgg16_bn
  EXPECT_FALSE(all.contains("features.43.weight"));
  EXPECT_EQ(all["features.40.weight"].sizes(), at::IntArrayRef({512, 512, 3, 3}));
}

TEST(ClassicalNetworks, VGGGivesMapsAfterPooling) {
  const torch::NoGradGuard no_grad;
  const auto vgg = classical_backbone("type: VGG, depth: 11");
  vgg->eval();
  const auto maps = vgg->forward(torch::randn({1, 3, 64, 32}));
  const auto features = vgg->features();
  ASSERT_EQ(maps.size(), 5u);
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(features[i].stride, 2 << i);
    EXPECT_EQ(maps[i].sizes(), at::IntArrayRef({1, features[i].channels, 32 >> i, 16 >> i}));
  }
  const auto dilated = classical_backbone(
      "type: VGG, depth: 11, strides: [2, 2, 2, 1, 1], dilations: [1, 1, 1, 1, 2], out_indices: "
      "[4]");
  EXPECT_EQ(dilated->features()[0].stride, 8);
  EXPECT_EQ(dilated->forward(torch::randn({1, 3, 64, 32}))[0].size(2), 8);
  EXPECT_THAT(backbone_error("type: VGG, depth: 12"), HasSubstr("depth: must be 11, 13, 16 or 19"));
  EXPECT_THAT(backbone_error("type: VGG, num_stages: 3"),
              HasSubstr("out_indices: there is no stage 3 of 3"));
}

TEST(ClassicalNetworks, FCN8sAddsScoresOnTheWayUp) {
  const torch::NoGradGuard no_grad;
  const std::vector<FeatureInfo> inputs{{4, 8}, {6, 16}, {8, 32}};
  const auto head =
      Spec<DecodeHead>::of("{type: FCNSkipHead, in_index: [0, 1, 2], channels: 5, num_classes: 2}")
          .build(inputs);
  head->eval();
  for (auto& p : head->parameters()) p.zero_();
  head->named_parameters()["scores.0.bias"].fill_(1);
  head->named_parameters()["scores.1.bias"].fill_(10);
  head->named_parameters()["conv_seg.bias"].fill_(100);
  const auto out = head->forward(
      {torch::zeros({1, 4, 9, 9}), torch::zeros({1, 6, 5, 5}), torch::zeros({1, 8, 3, 3})});
  EXPECT_EQ(out.sizes(), at::IntArrayRef({1, 2, 9, 9}));
  EXPECT_TRUE(torch::allclose(out, torch::full_like(out, 111)));
}

TEST(ClassicalNetworks, CropConcatUNetCropsAsInThePaper) {
  // Figure 1 of arXiv:1505.04597: 572 pixels give 388.
  const torch::NoGradGuard no_grad;
  const auto unet =
      classical_backbone("type: CropConcatUNet, base_channels: 1, padding: 0, norm_cfg: null");
  EXPECT_EQ(unet->forward(torch::randn({1, 3, 572, 572}))[0].sizes(),
            at::IntArrayRef({1, 1, 388, 388}));
  EXPECT_THROW(unet->forward(torch::randn({1, 3, 180, 300})), DataError);
  const auto padded = classical_backbone("type: CropConcatUNet, base_channels: 2, num_stages: 3");
  // 37 is halved to 18 and 9: what is joined is cropped to 36.
  EXPECT_EQ(padded->forward(torch::randn({2, 3, 37, 40}))[0].sizes(),
            at::IntArrayRef({2, 2, 36, 40}));
  EXPECT_EQ(padded->named_parameters()["up.0.weight"].sizes(), at::IntArrayRef({8, 4, 4, 4}));
}

TEST(ClassicalNetworks, PlainConvUNetGivesAMapOfEachStage) {
  const torch::NoGradGuard no_grad;
  const auto unet = classical_backbone(
      "type: PlainConvUNet, num_stages: 4, base_channels: 4, max_channels: 16, out_indices: [0, "
      "2]");
  const auto maps = unet->forward(torch::randn({1, 3, 40, 35}));
  ASSERT_EQ(maps.size(), 2u);
  EXPECT_EQ(maps[0].sizes(), at::IntArrayRef({1, 4, 40, 35}));
  EXPECT_EQ(maps[1].sizes(), at::IntArrayRef({1, 16, 10, 9}));
  EXPECT_THAT(backbone_error("type: PlainConvUNet, num_stages: 4, out_indices: [3]"),
              HasSubstr("out_indices: there is no map 3: the decoder has 3, counted from 0"));
}

TEST(ClassicalNetworks, ClassifierHeadReportsWhatCannotBe) {
  const auto error = [](const std::string& options) {
    return test::config_error([&] {
      Spec<DecodeHead>::of("{type: ClassifierHead, num_classes: 3, " + options + "}")
          .build(std::vector<FeatureInfo>{{4, 2}});
    });
  };
  EXPECT_THAT(error("kernel_size: 2"), HasSubstr("kernel_size: must be odd with stride 1, got 2"));
  EXPECT_THAT(error("kernel_size: 3, stride: 2"),
              HasSubstr("kernel_size: must be the stride 2 or an even number more, got 3"));
}

TEST(ClassicalNetworks, Train) {
  expect_trains(
      "backbone: {type: ENet}, decode_head: {type: ClassifierHead, kernel_size: 2, stride: 2, "
      "num_classes: 3}");
  expect_trains(
      "backbone: {type: SegNet, depth: 11}, decode_head: {type: ClassifierHead, kernel_size: 3, "
      "num_classes: 3}",
      32);
  expect_trains(
      "backbone: {type: VGG, depth: 11, with_bn: true, out_indices: [2, 3, 4]}, decode_head: "
      "{type: FCNSkipHead, in_index: [0, 1, 2], channels: 16, num_classes: 3}");
  expect_trains(
      "backbone: {type: VGG, depth: 11, with_bn: true, strides: [2, 2, 2, 1, 1], dilations: [1, 1, "
      "1, 1, 2], out_indices: [4]}, decode_head: {type: DeepLabHead, channels: 16, dilations: [6, "
      "12], num_classes: 3}");
  expect_trains(
      "backbone: {type: ResNet, depth: 18, base_channels: 8, stem_channels: 8}, decode_head: "
      "{type: RefineNetHead, channels: 8, coarsest_channels: 16, num_classes: 3}");
  expect_trains(
      "backbone: {type: CropConcatUNet, base_channels: 4, num_stages: 3}, decode_head: {type: "
      "ClassifierHead, num_classes: 3}");
  expect_trains(
      "backbone: {type: PlainConvUNet, base_channels: 4, num_stages: 4, out_indices: [0, 1, 2]}, "
      "decode_head: {type: ClassifierHead, in_index: 0, num_classes: 3}, auxiliary_head: [{type: "
      "ClassifierHead, in_index: 1, num_classes: 3}, {type: ClassifierHead, in_index: 2, "
      "num_classes: 3}]");
}

}  // namespace seg::classical_test
