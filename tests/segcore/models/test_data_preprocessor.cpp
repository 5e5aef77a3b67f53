#include "segcore/models/data_preprocessor.hpp"

#include <gtest/gtest.h>

#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"

namespace seg::data_preprocessor_test {

PackedSample sample(const torch::Tensor& image, const torch::Tensor& labels = {}) {
  PackedSample s;
  s.image = image;
  s.labels = labels;
  s.meta.img_path = "a.png";
  s.meta.ori_shape = {image.size(1), image.size(2)};
  return s;
}

ModelInput run(const std::string& yaml, const std::vector<PackedSample>& samples, bool training) {
  Batch batch;
  batch.samples = samples;
  return (*Spec<DataPreProcessor>::of(yaml).build())(batch, training, torch::kCPU);
}

std::string data_error(const std::string& yaml, const std::vector<PackedSample>& samples,
                       bool training) {
  try {
    run(yaml, samples, training);
  } catch (const DataError& e) {
    return e.what();
  }
  return "no error";
}

TEST(SegDataPreProcessor, TurnsNormalisesAndPads) {
  const auto image = torch::arange(24, torch::kUInt8).view({3, 2, 4});
  const auto labels = torch::ones({2, 4}, torch::kUInt8);
  const auto out =
      run("{type: SegDataPreProcessor, mean: [1, 2, 3], std: [2, 4, 8], bgr_to_rgb: true, size: "
          "[3, 6], "
          "pad_val: 7, seg_pad_val: 9}",
          {sample(image, labels), sample(image, labels)}, true);
  ASSERT_EQ(out.images.sizes(), at::IntArrayRef({2, 3, 3, 6}));
  EXPECT_EQ(out.images.scalar_type(), torch::kFloat32);
  EXPECT_EQ(out.images[0][0][0][0].item<float>(), (16.f - 1) / 2);  // the third band comes first
  EXPECT_EQ(out.images[1][2][1][3].item<float>(), (7.f - 3) / 8);
  EXPECT_EQ(out.images[0][1][2][0].item<float>(), 7);  // padding is not normalised
  EXPECT_EQ(out.labels.sizes(), at::IntArrayRef({2, 3, 6}));
  EXPECT_EQ(out.labels.scalar_type(), torch::kInt64);
  EXPECT_EQ(out.labels[0][0][5].item<int64_t>(), 9);
  EXPECT_EQ(out.metas[0].img_shape, (std::array<int64_t, 2>{2, 4}));
  EXPECT_EQ(out.metas[0].pad_shape, (std::array<int64_t, 2>{3, 6}));
}

TEST(SegDataPreProcessor, LaysImagesOutInTheFormatThatIsSet) {
  const auto planes = torch::arange(24, torch::kUInt8).view({3, 2, 4});
  const auto pixels = planes.permute({1, 2, 0}).contiguous().permute({2, 0, 1});
  for (const std::string options : {"", ", size: [3, 6], pad_val: 7"}) {
    const auto preprocessor = Spec<DataPreProcessor>::of(
                                  "{type: SegDataPreProcessor, mean: [1], std: [2]" + options + "}")
                                  .build();
    std::vector<torch::Tensor> images;
    for (const auto format : {at::MemoryFormat::Contiguous, at::MemoryFormat::ChannelsLast}) {
      preprocessor->set_memory_format(format);
      for (const auto& image : {planes, pixels}) {
        Batch batch;
        const auto labels = torch::ones({2, 4}, torch::kUInt8);
        batch.samples = {sample(image, labels), sample(image, labels)};
        images.push_back((*preprocessor)(batch, /*training=*/true, torch::kCPU).images);
        EXPECT_TRUE(images.back().is_contiguous(format)) << options;
        EXPECT_TRUE(torch::equal(images.back(), images.front())) << options;
      }
    }
  }
}

TEST(SegDataPreProcessor, AnswersTheSizeOfTraining) {
  const auto size = [](const std::string& yaml) {
    return Spec<DataPreProcessor>::of(yaml).build()->train_size();
  };
  EXPECT_EQ(size("{type: SegDataPreProcessor, size: [3, 6]}"), Size2(3, 6));
  EXPECT_EQ(size("{type: SegDataPreProcessor, size_divisor: 4}"), std::nullopt);
}

TEST(SegDataPreProcessor, TestingPadsOnlyByItsOwnOptions) {
  const auto image = torch::zeros({3, 5, 7}, torch::kUInt8);
  EXPECT_EQ(run("{type: SegDataPreProcessor, size: [8, 8]}", {sample(image)}, false).images.sizes(),
            at::IntArrayRef({1, 3, 5, 7}));
  EXPECT_EQ(run("{type: SegDataPreProcessor, size: [8, 8], test_cfg: {size_divisor: 4}}",
                {sample(image)}, false)
                .images.sizes(),
            at::IntArrayRef({1, 3, 8, 8}));
}

TEST(SegDataPreProcessor, TakesAnyNumberOfBandsAndWideIntegers) {
  const auto image = torch::full({5, 2, 2}, 60000, torch::kInt32).to(torch::kUInt16);
  const auto out = run("{type: SegDataPreProcessor, bgr_to_rgb: true}", {sample(image)}, false);
  EXPECT_EQ(out.images[0][4][1][1].item<float>(), 60000);
}

TEST(SegDataPreProcessor, ImagesThatDoNotFitAreNamed) {
  const auto small = sample(torch::zeros({3, 4, 4}), torch::zeros({4, 4}, torch::kLong));
  auto large = sample(torch::zeros({3, 4, 6}), torch::zeros({4, 6}, torch::kLong));
  large.meta.img_path = "b.png";
  const std::string type = "{type: SegDataPreProcessor";
  EXPECT_EQ(data_error(type + "}", {small, large}, true),
            "images of one batch differ in size: a.png is 4x4, b.png is 4x6. Set "
            "data_preprocessor.size, or crop to one size");
  EXPECT_EQ(data_error(type + "}", {small, large}, false),
            "images of one batch differ in size: a.png is 4x4, b.png is 4x6. Test with batch_size "
            "1, or resize to one size");
  EXPECT_EQ(data_error(type + ", mean: [1, 2, 3, 4], std: [1, 1, 1, 1]}", {small}, true),
            "a.png: has 3 bands, but data_preprocessor.mean and std have 4 values");
  EXPECT_EQ(data_error(type + "}", {sample(torch::zeros({3, 4, 4}))}, true),
            "a.png: has no labels to train on");
  EXPECT_EQ(data_error(type + "}",
                       {sample(torch::zeros({3, 4, 4}), torch::zeros({4, 5}, torch::kLong))}, true),
            "a.png: the image is 4x4, its labels are 4x5");
}

TEST(SegDataPreProcessor, OptionsThatContradictEachOther) {
  EXPECT_EQ(test::spec_error<DataPreProcessor>("{type: SegDataPreProcessor, mean: [1]}"),
            "<default>:1:35: error: mean: mean and std must be given together\n"
            "1 error in the configuration");
  EXPECT_EQ(test::spec_error<DataPreProcessor>(
                "{type: SegDataPreProcessor, bgr_to_rgb: true, rgb_to_bgr: true}"),
            "<default>:1:59: error: rgb_to_bgr: cannot be set together with bgr_to_rgb\n"
            "1 error in the configuration");
}

}  // namespace seg::data_preprocessor_test
