// InternImage: tensors and maps of OpenGVLab's repository
// (tests/data/encoders/make_internimage.py), its order of layers, training and messages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "segcore/models/backbone.hpp"
#include "segcore/testing/reference_values.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/encoder_facts.hpp"

namespace seg::intern_image_test {

using ::testing::HasSubstr;

std::shared_ptr<Backbone> intern_image(const std::string& options) {
  torch::manual_seed(0);
  return Spec<Backbone>::of(options).build();
}

const char* const kSmall =
    "type: InternImage, channels: 8, depths: [1, 1, 2, 1], groups: [1, 2, 2, 4]";

TEST(InternImage, HasTheTensorsOfTheOriginals) {
  // The larger ones are built like these and take seconds each.
  const int64_t most =
      std::getenv("SEGCORE_ALL_FIXTURES") ? std::numeric_limits<int64_t>::max() : 60'000'000;
  size_t tested = 0;
  for (const auto& row : test::encoder_table_rows("internimage.tsv")) {
    if (std::stoll(row[2]) > most) continue;
    SCOPED_TRACE(row[0]);
    const auto net = intern_image(row[1]);
    EXPECT_EQ(test::count_parameters(*net), std::stoll(row[2]));
    EXPECT_EQ(test::state_digest(*net), row[3]);
    ++tested;
  }
  EXPECT_GE(tested, 2u);
}

TEST(InternImage, HasTheTensorsOfTheHugeOne) {
  // Its options, at a fraction of its width and depth.
  const auto net = intern_image(
      "{type: InternImage, channels: 8, depths: [1, 1, 3, 1], groups: [1, 1, 1, 1], "
      "dw_kernel_size: 5, res_post_norm: true, level2_post_norm: true, level2_post_norm_block_ids: "
      "[0, 2], center_feature_scale: true}");
  const auto tensors = net->named_parameters();
  for (const char* name :
       {"levels.0.blocks.0.dcn.center_feature_scale_proj_weight",
        "levels.0.blocks.0.dcn.center_feature_scale_proj_bias",
        "levels.3.blocks.0.res_post_norm2.0.bias", "levels.2.post_norms.1.0.weight",
        "levels.2.norm.0.weight", "levels.0.downsample.norm.1.weight"}) {
    EXPECT_TRUE(tensors.contains(name)) << name;
  }
  EXPECT_FALSE(tensors.contains("levels.1.post_norms.0.0.weight"));
  EXPECT_EQ(tensors["levels.0.blocks.0.dcn.dw_conv.0.weight"].sizes(),
            at::IntArrayRef({8, 1, 5, 5}));
}

TEST(InternImage, GivesTheMapsAndGradientsOfTheOriginals) {
  at::set_num_threads(1);
  std::string built;
  std::vector<torch::Tensor> maps;
  for (const auto& row : test::encoder_table_rows("internimage_maps.tsv")) {
    SCOPED_TRACE(row[0] + ", map " + row[3]);
    if (built != row[0]) {
      built = row[0];
      const auto net = intern_image(row[0]);
      reference::fill(*net, 1);
      net->to(torch::kFloat64);
      net->eval();
      const auto image =
          reference::image({1, 3, std::stoll(row[1]), std::stoll(row[2])}).requires_grad_();
      maps = net->forward(image);
      const auto features = net->features();
      ASSERT_EQ(maps.size(), features.size());
      torch::Tensor sum = torch::zeros({});
      for (size_t i = 0; i < maps.size(); ++i) {
        EXPECT_EQ(maps[i].size(1), features[i].channels);
        // Each convolution of stride 2 rounds up.
        EXPECT_EQ(maps[i].size(2), (image.size(2) + features[i].stride - 1) / features[i].stride);
        sum = sum + maps[i].square().mean();
      }
      sum.backward();
      maps.push_back(image.grad());
    }
    test::expect_map(maps.at(std::stoul(row[3])).detach(), row, 4);
  }
  EXPECT_FALSE(built.empty());
}

TEST(InternImage, OrdersItsLayersAsTheOriginalsOptimizer) {
  // get_num_layer_for_swin of the repository, for the depths [1, 1, 2, 1].
  const auto order = intern_image(text("{", kSmall, "}"))->layer_order();
  EXPECT_EQ(order.count(LayerUnit::kBlock), 5);
  const auto layer = [&](const std::string& name) {
    return order.layer_of(name, LayerUnit::kBlock);
  };
  EXPECT_EQ(layer("patch_embed.conv1.weight"), 0);
  EXPECT_EQ(layer("levels.0.blocks.0.gamma1"), 1);
  EXPECT_EQ(layer("levels.0.norm.0.weight"), 2);
  EXPECT_EQ(layer("levels.0.downsample.conv.weight"), 2);
  EXPECT_EQ(layer("levels.1.blocks.0.norm1.0.bias"), 2);
  EXPECT_EQ(layer("levels.1.downsample.norm.1.weight"), 3);
  EXPECT_EQ(layer("levels.2.blocks.1.dcn.offset.weight"), 4);
  EXPECT_EQ(layer("levels.2.norm.0.bias"), 5);
  EXPECT_EQ(layer("levels.3.blocks.0.mlp.fc2.weight"), 5);
  EXPECT_EQ(layer("levels.3.norm.0.weight"), 5);
}

TEST(InternImage, BeginsWithoutOffsets) {
  const auto net = intern_image(text("{", kSmall, ", layer_scale: 0.5}"));
  net->initialize();
  const auto tensors = net->named_parameters();
  EXPECT_EQ(tensors["levels.1.blocks.0.dcn.offset.weight"].abs().max().item<double>(), 0);
  EXPECT_EQ(tensors["levels.1.blocks.0.dcn.mask.weight"].abs().max().item<double>(), 0);
  EXPECT_EQ(tensors["levels.1.blocks.0.gamma2"].min().item<double>(), 0.5);
  // Normal with 0.02, cut off far out; Xavier's uniform between +-sqrt(6 / 128).
  EXPECT_NEAR(tensors["levels.3.blocks.0.mlp.fc1.weight"].std().item<double>(), 0.02, 0.001);
  EXPECT_NEAR(tensors["levels.3.blocks.0.dcn.input_proj.weight"].max().item<double>(),
              std::sqrt(6.0 / 128), 0.005);
}

TEST(InternImage, RecomputesBlocksWithTheSameGradients) {
  const auto gradient = [&](const std::string& options) {
    const auto net = intern_image(text("{", kSmall, ", drop_path_rate: 0, ", options, "}"));
    reference::fill(*net, 1);
    net->forward(reference::image({2, 3, 32, 32}).to(torch::kFloat))[3].square().sum().backward();
    return net->named_parameters()["levels.0.blocks.0.dcn.offset.weight"].grad();
  };
  const auto plain = gradient("with_cp: false");
  EXPECT_GT(plain.abs().max().item<double>(), 0);
  EXPECT_TRUE(torch::allclose(gradient("with_cp: true"), plain, 1e-4, 1e-6));
}

TEST(InternImage, TrainsAllThatItsMapsDependOn) {
  const auto net = intern_image(
      text("{", kSmall, ", in_channels: 4, layer_scale: 1.0, drop_path_type: uniform}"));
  net->initialize();
  auto maps = net->forward(torch::randn({2, 4, 64, 64}));
  maps.insert(maps.begin(), torch::Tensor());
  test::backward_of_maps(maps);
  test::expect_gradients_where_trained(*net);
}

TEST(InternImage, FreezesLevelsButNotTheStem) {
  const auto net = intern_image(text("{", kSmall, ", frozen_stages: 1}"));
  net->train();
  const auto tensors = net->named_parameters();
  EXPECT_TRUE(tensors["patch_embed.conv1.weight"].requires_grad());
  EXPECT_FALSE(tensors["levels.0.blocks.0.norm1.0.weight"].requires_grad());
  EXPECT_FALSE(tensors["levels.0.downsample.conv.weight"].requires_grad());
  EXPECT_TRUE(tensors["levels.1.blocks.0.norm1.0.weight"].requires_grad());
}

TEST(InternImage, ChecksItsOptions) {
  const auto error = [](const std::string& options) {
    return test::spec_error<Backbone>(text("{type: InternImage, ", options, "}"));
  };
  EXPECT_THAT(error("depths: [1, 1, 1]"), HasSubstr("groups: has 4 entries for 3 levels"));
  EXPECT_THAT(error("groups: [3, 6, 12, 24]"),
              HasSubstr("groups: level 0: 3 does not divide its width 64"));
  const std::string fits = "groups: [4, 8, 16, 32], ";
  EXPECT_THAT(error(fits + "out_indices: [0, 4]"),
              HasSubstr("out_indices: there is no level 4 among 4"));
  EXPECT_THAT(error(fits + "frozen_stages: 5"),
              HasSubstr("frozen_stages: there are only 4 levels"));
  EXPECT_THAT(error(fits + "dw_kernel_size: 4"), HasSubstr("dw_kernel_size: must be odd, got 4"));
  EXPECT_THAT(error(fits + "res_post_norm: true, layer_scale: 1"),
              HasSubstr("res_post_norm: cannot be combined with layer_scale: its norms would not "
                        "be used"));
  EXPECT_THAT(error(fits + "level2_post_norm: true"),
              HasSubstr("level2_post_norm: needs level2_post_norm_block_ids, the blocks that "
                        "norms follow"));
  EXPECT_THAT(
      error(fits + "level2_post_norm: true, level2_post_norm_block_ids: [3, 18, 3]"),
      ::testing::AllOf(HasSubstr("level2_post_norm_block_ids: there is no block 18 among 18"),
                       HasSubstr("level2_post_norm_block_ids: names block 3 twice")));
  EXPECT_THAT(test::spec_warnings<Backbone>("{type: InternImage, " + fits +
                                            "level2_post_norm_block_ids: [3]}"),
              HasSubstr("level2_post_norm_block_ids: has no effect without level2_post_norm"));
  EXPECT_THAT(error("depths: [1, 1], groups: [4, 8], out_indices: [0, 1], level2_post_norm: true"),
              HasSubstr("level2_post_norm: is for the third level, which there is not"));
  EXPECT_THAT(error(fits + "core_op: DCNv4"), HasSubstr("core_op: unknown value 'DCNv4'."));
}

}  // namespace seg::intern_image_test
