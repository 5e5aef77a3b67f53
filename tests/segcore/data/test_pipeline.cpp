#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <opencv2/core.hpp>

#include "segcore/data/pipeline.hpp"
#include "tests/support/config_errors.hpp"

namespace seg {
namespace {

using ::testing::HasSubstr;

Pipeline pipeline_of(const std::vector<std::string>& steps) {
  std::vector<Spec<Transform>> specs;
  for (const auto& step : steps) specs.push_back(Spec<Transform>::of(step));
  return Pipeline(specs);
}

Sample random_sample(int height, int width, int64_t index = 0) {
  Sample sample;
  sample.meta.index = index;
  sample.meta.img_path = "a.png";
  sample.meta.ori_shape = {height, width};
  cv::RNG rng(5);
  sample.image = cv::Mat(height, width, CV_8UC3);
  rng.fill(sample.image, cv::RNG::UNIFORM, 0, 256);
  sample.labels = cv::Mat(height, width, CV_8U);
  rng.fill(sample.labels, cv::RNG::UNIFORM, 0, 5);
  return sample;
}

const std::vector<std::string> kTraining{
    "{type: RandomResize, scale: [64, 48], ratio_range: [0.8, 2.0], keep_ratio: true}",
    "{type: RandomCrop, crop_size: 32, cat_max_ratio: 0.75}", "{type: RandomFlip, prob: 0.5}",
    "{type: PhotoMetricDistortion}", "{type: PackSegInputs}"};

TEST(PipelineTest, DependsOnSeedEpochAndIndexAlone) {
  const Pipeline pipeline = pipeline_of(kTraining);
  const auto image = [&](uint64_t seed, uint64_t epoch, int64_t index) {
    return pipeline(random_sample(48, 64, index), seed, epoch).at(0).image;
  };
  const at::Tensor once = image(1, 2, 3);
  EXPECT_TRUE(at::equal(once, image(1, 2, 3)));
  EXPECT_FALSE(at::equal(once, image(2, 2, 3)));
  EXPECT_FALSE(at::equal(once, image(1, 3, 3)));
  EXPECT_FALSE(at::equal(once, image(1, 2, 4)));
}

TEST(PipelineTest, PacksWhatTheModelTakes) {
  const auto packed = pipeline_of(kTraining)(random_sample(48, 64), 0, 0);
  ASSERT_EQ(packed.size(), 1U);
  EXPECT_EQ(packed[0].image.sizes(), (std::vector<int64_t>{3, 32, 32}));
  EXPECT_EQ(packed[0].image.scalar_type(), at::kByte);
  EXPECT_EQ(packed[0].labels.sizes(), (std::vector<int64_t>{32, 32}));
  EXPECT_EQ(packed[0].meta.img_shape, (std::array<int64_t, 2>{32, 32}));
  EXPECT_EQ(packed[0].meta.ori_shape, (std::array<int64_t, 2>{48, 64}));
}

TEST(PackTest, GivesBandsRowsColumns) {
  Sample sample = random_sample(5, 7);
  const cv::Mat image = sample.image;
  const PackedSample packed = pack(sample);
  for (int y = 0; y < 5; ++y) {
    for (int x = 0; x < 7; ++x) {
      for (int band = 0; band < 3; ++band) {
        EXPECT_EQ(packed.image[band][y][x].item<int>(), image.at<cv::Vec3b>(y, x)[band]);
      }
      EXPECT_EQ(packed.labels[y][x].item<int>(), sample.labels.at<uint8_t>(y, x));
    }
  }
}

TEST(PackTest, KeepsTypes) {
  Sample sample = random_sample(5, 7);
  sample.image = cv::Mat(5, 7, CV_16UC(6));
  sample.image.reshape(1).setTo(60000);
  sample.labels = cv::Mat(5, 7, CV_32S, cv::Scalar(70000));
  sample.edges = cv::Mat::ones(5, 7, CV_8U);
  const PackedSample packed = pack(sample);
  EXPECT_EQ(packed.image.scalar_type(), at::kUInt16);
  EXPECT_EQ(packed.image.to(at::kLong).min().item<int64_t>(), 60000);
  EXPECT_EQ(packed.labels.scalar_type(), at::kLong);
  EXPECT_EQ(packed.labels.max().item<int64_t>(), 70000);
  EXPECT_EQ(packed.edges.sum().item<int64_t>(), 35);
}

TEST(PackTest, CropsDoNotKeepTheWholePicture) {
  Sample sample = random_sample(400, 400);
  sample.image = sample.image(cv::Rect(100, 100, 8, 8));
  const uint8_t* before = sample.image.data;
  EXPECT_NE(static_cast<const uint8_t*>(pack(sample).image.data_ptr()), before);
}

TEST(TestTimeAugTest, MakesTheProductLastListFastest) {
  const auto packed = pipeline_of(
      {"{type: TestTimeAug, transforms: [[{type: Resize, scale_factor: 0.5}, {type: Resize, "
       "scale_factor: 1.0}, {type: Resize, scale_factor: 2.0}], [{type: RandomFlip, prob: 0.0}, "
       "{type: RandomFlip, prob: 1.0}], [{type: PackSegInputs}]]}"})(random_sample(20, 30), 0, 0);
  ASSERT_EQ(packed.size(), 6U);
  const std::vector<std::array<int64_t, 2>> shapes{{10, 15}, {10, 15}, {20, 30},
                                                   {20, 30}, {40, 60}, {40, 60}};
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(packed[i].meta.img_shape, shapes[i]);
    EXPECT_EQ(packed[i].meta.flip, i % 2 == 1);
    EXPECT_EQ(packed[i].meta.flip_direction, i % 2 ? "horizontal" : "");
  }
  EXPECT_TRUE(at::equal(packed[2].image.flip({2}), packed[3].image));
  EXPECT_TRUE(at::equal(packed[2].labels.flip({1}), packed[3].labels));
}

TEST(TestTimeAugTest, WaysDoNotDisturbEachOther) {
  const auto packed =
      pipeline_of({"{type: TestTimeAug, transforms: [[{type: AdjustGamma, gamma: "
                   "2.0}, {type: AdjustGamma, gamma: 1.0}]]}",
                   "{type: PackSegInputs}"})(random_sample(20, 30), 0, 0);
  ASSERT_EQ(packed.size(), 2U);
  EXPECT_TRUE(at::equal(packed[1].image, pack(random_sample(20, 30)).image));
  EXPECT_FALSE(at::equal(packed[0].image, packed[1].image));
}

TEST(RandomChoiceTest, FollowsProbabilities) {
  const Pipeline pipeline = pipeline_of(
      {"{type: RandomChoice, prob: [0.2, 0.8], transforms: [[{type: Resize, scale: 4}, {type: Pad, "
       "size: [8, 8]}], {type: Resize, scale: 4}]}",
       "{type: RandomApply, prob: 0.25, transforms: [{type: Pad, size: [4, 5]}]}"});
  int padded = 0, applied = 0;
  for (int64_t i = 0; i < 1000; ++i) {
    const auto shape = pipeline(random_sample(16, 16, i), 0, 0)[0].meta.img_shape;
    padded += shape[0] == 8;
    applied += shape[0] == 5;
  }
  EXPECT_NEAR(padded, 200, 50);
  EXPECT_NEAR(applied, 200, 50);
}

TEST(PipelineTest, NothingFollowsPacking) {
  EXPECT_THAT(test::config_error([] {
                pipeline_of({"{type: PackSegInputs}", "{type: RandomFlip, prob: 0.5}"});
              }),
              HasSubstr("RandomFlip cannot follow PackSegInputs, which ends a pipeline"));
}

}  // namespace
}  // namespace seg
