/// BEiT and MAE: weights for other image sizes, initialisation, messages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "registry/error.hpp"
#include "segcore/models/backbone.hpp"
#include "segcore/models/weights/load_pretrained.hpp"
#include "segcore/testing/reference_values.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"

namespace seg::beit_test {

using ::testing::HasSubstr;

std::shared_ptr<Backbone> small(const std::string& type, const std::string& options) {
  torch::manual_seed(0);
  return Spec<Backbone>::of(text("{type: ", type,
                                 ", patch_size: 16, embed_dims: 8, num_layers: 2, num_heads: 2, ",
                                 options, "}"))
      .build();
}

const char* const kTable = "layers.0.attn.relative_position_bias_table";

TEST(BEiT, ResizesTablesAsMMSegmentationDoes) {
  const auto net = small("BEiT", "img_size: 80");  // 5x5 patches
  Value file = Value::dict();
  const auto pairs = reference::uniform("table", 50).view({25, 2});  // of 3x3 patches
  const auto others = torch::tensor({{1.0, 2.0}, {3.0, 4.0}, {5.0, 6.0}}, torch::kFloat64);
  file.set(kTable, torch::cat({pairs, others}).to(torch::kFloat32));
  file.set("layers.0.attn.relative_position_index", torch::zeros({10, 10}, torch::kLong));
  const Value weights = weights_for(*net, file, {.checkpoint = "beit.pth"});
  const auto table = weights.at(kTable).as_tensor();
  ASSERT_EQ(table.sizes(), (std::vector<int64_t>{84, 2}));
  // From BEiT._geometric_sequence_interpolation of mmsegmentation 1.2.2, with SciPy's
  // RectBivariateSpline in place of interp2d, which is the same routine of FITPACK.
  const std::vector<std::pair<int64_t, std::array<double, 2>>> expected{
      {0, {0.8889793753623962, 0.2146751880645752}},
      {1, {0.8889793753623962, 0.2146751880645752}},
      {40, {0.5909320712089539, 0.11280685663223267}},
      {44, {0.372983455657959, 0.5838832855224609}},
      {60, {0.893306314945221, 1.2328922748565674}},
      {80, {0.932267963886261, 0.03967028856277466}}};
  for (const auto& [row, values] : expected) {
    for (int64_t head = 0; head < 2; ++head) {
      EXPECT_NEAR(table[row][head].item<double>(), values[head], 2e-7) << row;
    }
  }
  EXPECT_NEAR(table.narrow(0, 0, 81).to(torch::kFloat64).sum().item<double>(), 95.26645300164819,
              1e-5);
  EXPECT_TRUE(torch::equal(table.narrow(0, 81, 3), others.to(torch::kFloat32)));
  // The index is that of the model's own size, whatever the file has.
  EXPECT_EQ(weights.at("layers.0.attn.relative_position_index").as_tensor().size(0), 26);
}

TEST(BEiT, LeavesTablesThatFitAndThoseOfNoSquare) {
  const auto net = small("BEiT", "img_size: 48");
  for (const int64_t rows : {28, 30}) {
    Value file = Value::dict();
    file.set(kTable, torch::rand({rows, 2}));
    const Value weights = weights_for(*net, file, {.checkpoint = "beit.pth"});
    EXPECT_TRUE(torch::equal(weights.at(kTable).as_tensor(), file.at(kTable).as_tensor())) << rows;
  }
}

TEST(MAE, ResizesPositionEmbeddings) {
  const auto net = small("MAE", "img_size: [64, 96]");
  Value file = Value::dict();
  const auto given = torch::rand({1, 1 + 4 * 4, 8});
  file.set("pos_embed", given);
  const Value weights = weights_for(*net, file, {.checkpoint = "mae.pth"});
  const auto fitted = weights.at("pos_embed").as_tensor();
  ASSERT_EQ(fitted.sizes(), (std::vector<int64_t>{1, 1 + 4 * 6, 8}));
  EXPECT_TRUE(torch::equal(fitted.select(1, 0), given.select(1, 0)));
}

TEST(BEiT, SaysWhichImagesItTakes) {
  const auto net = small("BEiT", "img_size: [64, 96]");
  EXPECT_EQ(net->forward(torch::rand({1, 3, 64, 96}))[0].sizes(),
            (std::vector<int64_t>{1, 8, 4, 6}));
  try {
    net->forward(torch::rand({1, 3, 64, 112}));
    FAIL() << "no error";
  } catch (const DataError& e) {
    EXPECT_STREQ(e.what(),
                 "images of 64x112 do not fit this BEiT, which was built for 64x96. Train on crops "
                 "of that size and predict by a sliding window, test_cfg: {mode: slide, crop_size: "
                 "[64, 96], stride: ...}, or set img_size of the backbone");
  }
}

TEST(BEiT, RulesOfAnInitCfgFillTablesOfBEiTAndShrinkLayersOfMAE) {
  const std::string rules = "img_size: 32, init_cfg: {type: Constant, layer: Conv2d, val: 0.5}";
  const auto table_of = [](Backbone& net) {
    return net.named_parameters()["layers.1.attn.relative_position_bias_table"].abs();
  };
  const auto beit = small("BEiT", rules), mae = small("MAE", rules);
  beit->init_weights();
  mae->init_weights();
  EXPECT_GT(table_of(*beit).max().item<double>(), 0);
  EXPECT_EQ(table_of(*mae).max().item<double>(), 0);
  for (const auto& net : {beit, mae}) {
    const auto parameters = net->named_parameters();
    EXPECT_EQ(parameters["patch_embed.projection.weight"].min().item<double>(), 0.5);
    EXPECT_EQ(parameters["layers.0.ffn.layers.1.bias"].abs().max().item<double>(), 0);
  }
  // 0.02 in the first place, less by sqrt(2 * 2) in the second block.
  const auto deviation = [](Backbone& net) {
    return net.named_parameters()["layers.1.ffn.layers.1.weight"].std().item<double>();
  };
  EXPECT_NEAR(deviation(*beit), 0.02, 0.003);
  EXPECT_NEAR(deviation(*mae), 0.01, 0.0015);
}

TEST(BEiT, ChecksItsOptions) {
  const auto error = [](const std::string& options) {
    return test::spec_error<Backbone>("{type: BEiT, " + options + "}");
  };
  EXPECT_THAT(error("num_heads: 5"), HasSubstr("num_heads: does not divide embed_dims 768"));
  EXPECT_THAT(error("img_size: 8"), HasSubstr("img_size: must be at least patch_size, 16"));
  EXPECT_THAT(error("out_indices: [3, 12]"),
              HasSubstr("out_indices: there is no block 12 among 12"));
  EXPECT_THAT(error("out_indices: [-1, 3]"), HasSubstr("out_indices: "));
}

}  // namespace seg::beit_test
