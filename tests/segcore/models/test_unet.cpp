#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "segcore/models/backbone.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

using ::testing::HasSubstr;

TEST(UNet, GivesMapsFromCoarseToFine) {
  const auto net = Spec<Backbone>::of(
                       "{type: UNet, base_channels: 4, num_stages: 3, strides: [1, 1, 2], "
                       "enc_num_convs: [1, 2, 1], dec_num_convs: [1, 2], "
                       "downsamples: [true, false], enc_dilations: [1, 1, 2], "
                       "dec_dilations: [1, 2], upsample_cfg: {type: DeconvModule}}")
                       .build();
  const auto maps = net->forward(torch::zeros({2, 3, 8, 12}));
  const auto features = net->features();
  ASSERT_EQ(maps.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    const int64_t stride = int64_t{4} >> i;
    EXPECT_EQ(features[i].channels, int64_t{16} >> i);
    EXPECT_EQ(features[i].stride, stride);
    EXPECT_EQ(maps[i].sizes(),
              (std::vector<int64_t>{2, int64_t{16} >> i, 8 / stride, 12 / stride}));
  }
  const auto names = net->named_parameters();
  EXPECT_TRUE(names.contains("decoder.1.upsample.deconv_upsamping.0.weight"));
  EXPECT_TRUE(names.contains("encoder.1.1.convs.0.conv.weight"));
  EXPECT_TRUE(names.contains("encoder.2.0.convs.0.conv.weight"));
}

TEST(UNet, NamesTheSizeThatDoesNotFit) {
  const auto net = Spec<Backbone>::of("{type: UNet, base_channels: 2}").build();
  try {
    net->forward(torch::zeros({1, 3, 40, 33}));
    FAIL() << "no error";
  } catch (const DataError& e) {
    EXPECT_THAT(e.what(), HasSubstr("images of 40x33 do not fit this UNet: height and width must "
                                    "be multiples of 16"));
  }
}

TEST(UNet, CountsTheOptionsOfItsStages) {
  try {
    Spec<Backbone>::of("{type: UNet, num_stages: 4}");
    FAIL() << "no error";
  } catch (const ConfigError& e) {
    EXPECT_THAT(e.what(), HasSubstr("strides: needs 4 values (num_stages), got 5"));
    EXPECT_THAT(e.what(), HasSubstr("dec_num_convs: needs 3 values (num_stages - 1), got 4"));
  }
}

}  // namespace
}  // namespace seg
