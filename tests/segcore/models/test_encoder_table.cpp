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
  std::vector<std::string> out;
  for (const char* name : {"resnet18", "vgg11", "tu-vgg11_bn", "tv-vgg11", "mobilenet_v2"}) {
    out.emplace_back(name);
  }
  return out;
}

std::shared_ptr<Segmentor> paired(const std::string& options) {
  torch::manual_seed(0);
  return Spec<Segmentor>::of("{" + options + "}").build();
}

/// A step of training and a prediction of an image of odd sides.
void expect_pair_works(Segmentor& model, int64_t side, Size2 odd) {
  set_drop_probability(model, 0);
  const auto losses = model.loss(torch::randn({2, 3, side, side}),
                                 torch::randint(0, 3, {2, side, side}, torch::kLong));
  total_loss(losses).backward();
  for (const auto& item : model.named_parameters()) {
    ASSERT_EQ(item.value().requires_grad(), item.value().grad().defined()) << item.key();
    if (!item.value().grad().defined()) continue;
    ASSERT_TRUE(item.value().grad().isfinite().all().item<bool>()) << item.key();
  }
  model.eval();
  const torch::NoGradGuard no_grad;
  EXPECT_EQ(model.encode_decode(torch::randn({1, 3, odd.h, odd.w})).sizes(),
            at::IntArrayRef({1, 3, odd.h, odd.w}));
}

class EncoderPairs : public ::testing::TestWithParam<std::string> {};

TEST_P(EncoderPairs, TrainUnderHeadsAndDecoders) {
  const std::string name = GetParam();
  const std::vector<std::string> heads{
      "decode_head: {type: FCNHead, channels: 8, num_convs: 1, num_classes: 3, norm_cfg: {type: "
      "BN}}",
      "decode_head: {type: UPerHead, channels: 8, in_index: [0, 1, 2, 3], pool_scales: [1, 2], "
      "num_classes: 3, norm_cfg: {type: BN}}",
      "decode_head: {type: SegformerHead, channels: 8, in_index: [0, 1, 2, 3], num_classes: 3, "
      "norm_cfg: {type: BN}}"};
  for (const auto& head : heads) {
    SCOPED_TRACE(name + ", " + head);
    const auto model =
        paired("type: EncoderDecoder, backbone: {type: SmpEncoder, name: " + name + "}, " + head);
    expect_pair_works(*model, 64, {75, 67});
  }
  const std::vector<std::string> decoders{"type: Unet, decoder_channels: [16, 16, 8, 8, 8]",
                                          "type: FPN, decoder_pyramid_channels: 8, "
                                          "decoder_segmentation_channels: 32"};
  for (const auto& decoder : decoders) {
    SCOPED_TRACE(name + ", " + decoder);
    const auto model =
        paired(decoder + ", classes: 3, encoder_weights: null, encoder_name: " + name);
    expect_pair_works(*model, 64, {96, 64});
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
