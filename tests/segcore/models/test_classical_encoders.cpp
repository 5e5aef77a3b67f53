// DenseNets, ResNets, SENets, Inceptions and Xceptions: facts and maps of the Python libraries
// (tests/data/encoders/make_classical_encoders.py), training, stochastic depth and first values.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <set>

#include "segcore/io/weights.hpp"
#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/testing/reference_values.hpp"
#include "segcore/torch.hpp"
#include "tests/support/encoder_facts.hpp"

namespace seg::classical_encoders_test {

std::shared_ptr<Encoder> started(const std::string& name, const EncoderOptions& options = {}) {
  torch::manual_seed(0);
  auto encoder = build_plain_encoder(name, options);
  encoder->init_weights();
  return encoder;
}

/// Whether all encoders are tested, and not only those that take little time.
bool tests_all() { return std::getenv("SEGCORE_ALL_ENCODERS") != nullptr; }

// --- Names, shapes and numbers ------------------------------------------------------------------

TEST(ClassicalEncoders, HaveTheTensorsOfPython) {
  // Larger ones have the same blocks more often or wider, and take seconds each.
  const int64_t most = tests_all() ? INT64_MAX : 22'000'000;
  size_t tested = 0;
  for (const auto& row : test::encoder_table_rows("classical_encoders.tsv")) {
    SCOPED_TRACE(row[0]);
    ASSERT_NE(EncoderTable::instance().find(row[0]), nullptr);
    if (std::stoll(row[1]) > most) continue;
    const auto encoder = build_plain_encoder(row[0], {});
    EXPECT_EQ(test::count_parameters(*encoder), std::stoll(row[1]));
    EXPECT_EQ(test::state_digest(*encoder), row[2]);
    ++tested;
  }
  EXPECT_GT(tested, 30u);
}

TEST(ClassicalEncoders, AreAllComparedWithPython) {
  std::set<std::string> compared;
  for (const auto& row : test::encoder_table_rows("classical_encoders.tsv"))
    compared.insert(row[0]);
  EXPECT_EQ(compared.size(), 115u);
  for (const auto& name : EncoderTable::instance().names()) {
    for (const char* part : {"densenet", "resnet", "resnext", "senet", "inception", "xception"}) {
      if (name.find(part) == name.npos) continue;
      EXPECT_EQ(compared.count(name), 1u) << name;
    }
  }
}

TEST(ClassicalEncoders, GiveTheMapsOfPython) {
  const torch::NoGradGuard no_grad;
  at::set_num_threads(1);
  const auto image = reference::image({1, 3, 80, 112}).to(torch::kFloat64);
  std::string built;
  std::vector<torch::Tensor> maps;
  std::shared_ptr<Encoder> encoder;
  const std::set<std::string> slow{
      "tu-densenet161", "tu-resnet50s",       "tu-inception_resnet_v2", "tu-xception65",
      "tu-xception71",  "tv-wide_resnet50_2", "tv-resnext50_32x4d",     "se_resnext50_32x4d"};
  for (const auto& row : test::encoder_table_rows("classical_maps.tsv")) {
    if (slow.count(row[0]) > 0 && !tests_all()) continue;
    SCOPED_TRACE(row[0] + " at the output stride " + row[1] + ", map " + row[3]);
    if (built != row[0] + row[1]) {
      built = row[0] + row[1];
      encoder = build_plain_encoder(row[0], {.output_stride = std::stoll(row[1])});
      reference::fill(*encoder, std::stod(row[2]));
      for (auto& p : encoder->parameters()) p.set_data(p.to(torch::kFloat64));
      for (auto& b : encoder->buffers()) {
        if (b.is_floating_point()) b.set_data(b.to(torch::kFloat64));
      }
      encoder->eval();
      maps = encoder->forward(image);
      ASSERT_EQ(maps.size(), 6u);
    }
    const auto i = static_cast<size_t>(std::stoul(row[3]));
    test::expect_map(maps[i], row, 4);
    EXPECT_EQ(maps[i].size(1), encoder->maps()[i].channels);
  }
}

// --- Training -----------------------------------------------------------------------------------

TEST(ClassicalEncoders, TrainWhatTheirMapsDependOn) {
  // At depth 3 the last map of the aligned Xception is inside a block.
  for (const std::string name : {"densenet121", "tu-cbam_resnet18", "se_resnet50", "bninception",
                                 "inceptionv4", "xception", "tu-xception41"}) {
    for (const int64_t depth : {3, 5}) {
      SCOPED_TRACE(text(name, " of depth ", depth));
      const auto encoder = started(name, {.depth = depth});
      const auto maps = encoder->forward(torch::randn({2, 3, 96, 96}));
      ASSERT_EQ(maps.size(), static_cast<size_t>(depth + 1));
      test::backward_of_maps(maps);
      test::expect_gradients_where_trained(*encoder);
    }
  }
}

TEST(ClassicalEncoders, LoseBlocksAtTheRateOfTheLastOne) {
  const auto rates = [](const std::string& name, double rate) {
    std::vector<double> out;
    const auto encoder = build_plain_encoder(name, {.drop_path_rate = rate});
    for_each_module(*encoder, [&](torch::nn::Module& m) {
      if (auto* drop = dynamic_cast<DropPath*>(&m)) out.push_back(drop->drop_probability());
    });
    return out;
  };
  EXPECT_THAT(rates("tu-resnet18", 0.7), ::testing::Pointwise(::testing::DoubleNear(1e-12),
                                                              {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7}));
  EXPECT_TRUE(rates("tu-resnet18", 0).empty());
  // The last of 13 blocks has no shortcut.
  const auto xception = rates("tu-xception41", 0.12);
  ASSERT_EQ(xception.size(), 11u);
  EXPECT_NEAR(xception.back(), 0.11, 1e-12);
  try {
    rates("tv-resnet18", 0.1);
    FAIL() << "no error";
  } catch (const OptionError& e) {
    EXPECT_STREQ(e.what(), "tv-resnet18 has no stochastic depth");
  }
}

TEST(ClassicalEncoders, StartAsTheirLibrariesDo) {
  const auto deviation = [](const std::string& name, const std::string& tensor) {
    return started(name)->named_parameters()[tensor].std().item<double>();
  };
  // timm's residual branches start at zero.
  EXPECT_EQ(
      started("tu-resnet18")->named_parameters()["layer1.0.bn2.weight"].abs().sum().item<double>(),
      0);
  EXPECT_EQ(started("tv-resnet18")->named_parameters()["layer1.0.bn2.weight"].sum().item<double>(),
            64);
  EXPECT_NEAR(deviation("tv-densenet121", "features.denseblock1.denselayer1.conv2.weight"),
              std::sqrt(2.0 / (9 * 128)), 0.002);
  EXPECT_NEAR(deviation("tv-inception_v3", "Mixed_6e.branch1x1.conv.weight"), 0.1, 0.002);
  EXPECT_NEAR(deviation("tv-googlenet", "inception4a.branch1.conv.weight"), 0.01, 0.0002);
  EXPECT_NEAR(deviation("tu-xception41", "blocks.5.stack.conv1.conv_pw.weight"),
              1 / std::sqrt(3 * 728.0), 0.0002);
}

// --- Weights and models -------------------------------------------------------------------------

TEST(DenseNet, TakesTheNamesOfOlderFiles) {
  Value state = Value::dict();
  const auto one = Value(torch::ones({1}));
  for (const std::string name :
       {"features.denseblock1.denselayer1.norm.1.weight",
        "features.denseblock4.denselayer16.conv.2.weight", "features.transition1.norm.weight",
        "features.norm5.bias", "classifier.weight"}) {
    state.set(name, one);
  }
  build_plain_encoder("tv-densenet121", {})->adapt_pretrained(state);
  std::set<std::string> names;
  for (const auto& [name, value] : state.as_dict()) names.insert(name.as_string());
  EXPECT_EQ(names,
            (std::set<std::string>{"features.denseblock1.denselayer1.norm1.weight",
                                   "features.denseblock4.denselayer16.conv2.weight",
                                   "features.transition1.norm.weight", "features.norm5.bias"}));
}

TEST(ClassicalEncoders, AreEncodersOfAUnet) {
  const torch::NoGradGuard no_grad;
  for (const std::string name : {"densenet121", "se_resnet50", "xception", "tu-inception_v3"}) {
    SCOPED_TRACE(name);
    torch::manual_seed(0);
    const auto model = Spec<Segmentor>::of(
                           "{type: Unet, classes: 3, encoder_weights: null, encoder_name: " + name +
                           ", decoder_channels: [16, 16, 8, 8, 8]}")
                           .build();
    model->eval();
    EXPECT_EQ(model->encode_decode(torch::randn({1, 3, 96, 128})).sizes(),
              at::IntArrayRef({1, 3, 96, 128}));
  }
}

}  // namespace seg::classical_encoders_test
