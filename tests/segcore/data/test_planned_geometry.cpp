/// Steps that only plan where pixels go: bit for bit what the same steps make one by one.
#include <gtest/gtest.h>

#include <map>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

#include "registry/text.hpp"
#include "segcore/data/pipeline.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg {
namespace {

using test::TempDir;

constexpr const char* kLoadImage = "{type: LoadImageFromFile}";
constexpr const char* kLoadLabels = "{type: LoadAnnotations}";

class PlannedGeometryTest : public ::testing::Test {
 protected:
  PlannedGeometryTest() {
    cv::Mat image(90, 130, CV_8UC3), labels(90, 130, CV_8U);
    cv::randu(image, 0, 256);
    cv::GaussianBlur(image, image, cv::Size(5, 5), 1.2);
    cv::randu(labels, 0, 5);
    write_image(dir_ / "a.jpg", image);
    write_image(dir_ / "a.png", labels);
    write_image(dir_ / "image.png", image);
  }

  Sample sample(uint64_t index, const std::string& image) const {
    Sample out;
    out.meta.index = static_cast<int64_t>(index);
    out.meta.img_path = dir_ / image;
    out.meta.seg_map_path = dir_ / "a.png";
    return out;
  }

  static std::vector<Spec<Transform>> specs(const std::vector<std::string>& steps) {
    std::vector<Spec<Transform>> out;
    for (const std::string& step : steps) out.push_back(Spec<Transform>::of(step));
    return out;
  }

  /// Many draws of the steps, planned and one by one.
  void compare(const std::vector<std::string>& steps, const std::string& image = "a.jpg") const {
    const auto of_each = specs(steps);
    const Pipeline pipeline(of_each);
    for (uint64_t draw = 0; draw < 60; ++draw) {
      const Sample planned = std::move(pipeline.run(sample(draw, image), 5, 0).at(0));
      Sample expected = sample(draw, image);
      Rng rng(5, RngPurpose::kAugmentation, 0, draw);
      for (const auto& step : of_each) step.build()->apply(expected, rng);
      ASSERT_TRUE(planned.planned.image.empty() && !planned.source);
      ASSERT_EQ(planned.image.size(), expected.image.size()) << join(steps, ", ");
      EXPECT_EQ(cv::norm(planned.image, expected.image, cv::NORM_INF), 0) << join(steps, ", ");
      ASSERT_EQ(planned.labels.size(), expected.labels.size()) << join(steps, ", ");
      EXPECT_EQ(cv::norm(planned.labels, expected.labels, cv::NORM_INF), 0) << join(steps, ", ");
      EXPECT_EQ(planned.meta.ori_shape, expected.meta.ori_shape);
      EXPECT_EQ(planned.meta.scale_factor, expected.meta.scale_factor);
      EXPECT_EQ(planned.meta.flip_direction, expected.meta.flip_direction);
    }
  }

  /// The same of an image without labels.
  static void compare_images(const std::vector<std::string>& steps, const std::string& image) {
    const auto of_each = specs(steps);
    const Pipeline pipeline(of_each);
    for (uint64_t draw = 0; draw < 6; ++draw) {
      Sample expected;
      expected.meta.index = static_cast<int64_t>(draw);
      expected.meta.img_path = image;
      const Sample planned = std::move(pipeline.run(expected, 5, 0).at(0));
      Rng rng(5, RngPurpose::kAugmentation, 0, draw);
      for (const auto& step : of_each) step.build()->apply(expected, rng);
      ASSERT_EQ(planned.image.size(), expected.image.size()) << image;
      ASSERT_EQ(planned.image.type(), expected.image.type()) << image;
      EXPECT_EQ(cv::norm(planned.image, expected.image, cv::NORM_INF), 0) << image;
      EXPECT_EQ(planned.meta.ori_shape, expected.meta.ori_shape) << image;
    }
  }

  TempDir dir_;
};

TEST_F(PlannedGeometryTest, OfATrainingPipeline) {
  for (const std::string image : {"a.jpg", "image.png"}) {
    compare(
        {kLoadImage, kLoadLabels,
         "{type: RandomResize, scale: [260, 90], ratio_range: [0.5, 2.0], keep_ratio: true}",
         "{type: RandomCrop, crop_size: [64, 48], cat_max_ratio: 0.21}",
         "{type: RandomFlip, prob: [0.3, 0.3, 0.3], direction: [horizontal, vertical, diagonal]}",
         "{type: PhotoMetricDistortion}"},
        image);
  }
}

TEST_F(PlannedGeometryTest, OfStepsInOtherOrders) {
  const std::string flip =
      "{type: RandomFlip, prob: [0.3, 0.3, 0.3], direction: [horizontal, vertical, diagonal]}";
  const std::string crop = "{type: RandomCrop, crop_size: [50, 41]}";
  const std::string resize = "{type: RandomResize, scale: [[40, 50], [170, 120]]}";
  compare({kLoadImage, kLoadLabels, flip, crop, crop, flip, crop});
  compare({kLoadImage, kLoadLabels, crop, resize, flip, resize, crop});
  compare({kLoadImage, resize, kLoadLabels, "{type: Resize, scale: [70, 60]}", crop});
  compare({kLoadLabels, kLoadImage, flip, resize, "{type: CenterCrop, crop_size: 61}"});
  compare(
      {kLoadImage, kLoadLabels, resize, "{type: CenterCrop, crop_size: 99, auto_pad: true}", flip});
  compare({kLoadImage, kLoadLabels, "{type: RandomApply, transforms: [" + resize + "], prob: 0.5}",
           "{type: RandomChoice, transforms: [" + crop + ", " + flip + "]}",
           "{type: Pad, size: [128, 128]}", flip});
}

TEST_F(PlannedGeometryTest, OfRotationsAndPads) {
  const std::string crop = "{type: RandomCrop, crop_size: [50, 41]}";
  const std::string resize =
      "{type: RandomResize, scale: [260, 90], ratio_range: [0.5, 2.0], "
      "keep_ratio: true}";
  const std::string flip =
      "{type: RandomFlip, prob: [0.3, 0.3, 0.3], direction: [horizontal, vertical, diagonal]}";
  for (const std::string image : {"a.jpg", "image.png"}) {
    for (const std::string how : {"", ", auto_bound: true", ", center: [3, 70]"}) {
      const std::string rotate =
          "{type: RandomRotate, prob: 0.7, degree: 180, pad_val: 77" + how + "}";
      compare({kLoadImage, kLoadLabels, resize, rotate, crop, flip}, image);
      compare({kLoadImage, kLoadLabels, flip, rotate, crop, rotate, flip, resize, crop}, image);
    }
    for (const std::string mode : {"constant", "edge", "reflect", "symmetric"}) {
      const std::string pad = "{type: Pad, size: [150, 160], padding_mode: " + mode +
                              ", pad_val: {img: [1, 2, 3], seg: 4}}";
      compare({kLoadImage, kLoadLabels, resize, pad, crop, flip}, image);
      compare({kLoadImage, kLoadLabels, crop, flip, pad, resize, crop}, image);
    }
    compare({kLoadImage, kLoadLabels, resize, "{type: RandomRotFlip, degree: 30}", crop, flip,
             "{type: RandomRotFlip, rotate_prob: 0, flip_prob: 1}", crop, resize,
             "{type: ResizeToMultiple, size_divisor: [32, 24]}", crop},
            image);
  }
}

TEST_F(PlannedGeometryTest, OfClassesThatChangePlaces) {
  const std::string flip = "{type: RandomFlip, prob: 0.5, swap_seg_labels: [[0, 3], [1, 4]]}";
  const std::string rotate = "{type: RandomRotate, prob: 0.7, degree: 60, seg_pad_val: 0}";
  const std::string pad = "{type: Pad, size: [150, 160], pad_val: {seg: 1}}";
  compare({kLoadImage, kLoadLabels, rotate, flip, pad, flip,
           "{type: RandomCrop, crop_size: [90, 81]}", flip});
}

TEST_F(PlannedGeometryTest, NothingIsLeftOfLabelsThatCameTooLate) {
  const Pipeline pipeline(specs({kLoadImage, "{type: Pad, size: [400, 400]}", kLoadLabels,
                                 "{type: CenterCrop, crop_size: 10}"}));
  try {
    pipeline.run(sample(0, "a.jpg"), 5, 0);
    FAIL() << "an empty crop was made";
  } catch (const DataError& e) {
    EXPECT_EQ(std::string(e.what()),
              (dir_ / "a.jpg") +
                  ": a crop of the image at x 195, y 195 leaves nothing of a "
                  "picture of its annotation, 130 x 90: load annotations before "
                  "the image is resized or padded");
  }
}

TEST_F(PlannedGeometryTest, DepthHasTheSizeOfItsImage) {
  write_image(dir_ / "depth.png", cv::Mat(20, 30, CV_16U, cv::Scalar(7)));
  Sample with_depth = sample(0, "a.jpg");
  with_depth.meta.depth_map_path = dir_ / "depth.png";
  const Pipeline pipeline(specs({kLoadImage, "{type: LoadDepthAnnotation}"}));
  try {
    pipeline.run(with_depth, 5, 0);
    FAIL() << "depth of another size was taken";
  } catch (const DataError& e) {
    EXPECT_EQ(std::string(e.what()), (dir_ / "depth.png") +
                                         ": the depth is 30 x 20 pixels (width x height), but the "
                                         "image " +
                                         (dir_ / "a.jpg") + " is 130 x 90");
  }
}

TEST_F(PlannedGeometryTest, RotatesPicturesWithVeryLongSides) {
  Sample from = sample(0, "a.jpg");
  from.image.create(3, 40'000, CV_8U);
  from.image.setTo(5);
  Rng rng(5, RngPurpose::kAugmentation, 0, 0);
  Spec<Transform>::of("{type: RandomRotate, prob: 1, degree: [90, 90], auto_bound: true}")
      .build()
      ->apply(from, rng);
  EXPECT_EQ(from.image.size(), cv::Size(3, 40'000));
  EXPECT_EQ(cv::norm(from.image.rowRange(2, 39'998), cv::Mat(39'996, 3, CV_8U, cv::Scalar(5)),
                     cv::NORM_INF),
            0);
}

TEST_F(PlannedGeometryTest, ReadsOnlyWhatIsLeft) {
  Sample from = sample(0, "a.jpg");
  from.image.create(90, 130, CV_8UC3);
  Rng rng(5, RngPurpose::kAugmentation, 0, 0);
  for (const std::string step :
       {"{type: Resize, scale: [260, 180]}", "{type: Pad, size: [300, 200]}",
        "{type: RandomRotate, prob: 1, degree: [89.9, 90.1], auto_bound: true}",
        "{type: CenterCrop, crop_size: [20, 10]}", "{type: RandomFlip, prob: 1}"}) {
    Spec<Transform>::of(step).build()->plan(from, rng);
  }
  EXPECT_EQ(from.planned.image.size({130, 90}), cv::Size(20, 10));
  const cv::Rect read = from.planned.image.needed({130, 90}, CV_8UC3);
  EXPECT_LE(read.width, 9) << "ten rows, which were columns of half the width";
  EXPECT_LE(read.height, 14);
  EXPECT_GE(read.width, 5);
  EXPECT_GE(read.height, 10);
  // All that is left may be what was padded.
  Spec<Transform>::of("{type: Pad, size: [100, 100], pad_val: 9}").build()->plan(from, rng);
  from.planned.image.crop({130, 90}, {70, 60, 30, 20});
  EXPECT_LE(from.planned.image.needed({130, 90}, CV_8UC3).area(), 9);
  settle(from);
  EXPECT_EQ(cv::norm(from.image, cv::Mat(20, 30, CV_8UC3, cv::Scalar::all(9)), cv::NORM_INF), 0);
}

TEST_F(PlannedGeometryTest, RotationsAreOpenCVs) {
  const std::map<std::string, int> types{
      {"labels", CV_32S}, {"bytes", CV_8UC3}, {"words", CV_16UC1}, {"floats", CV_32FC(2)}};
  for (const double angle : {0.0, 33.3, 90.0, -121.7, 180.0}) {
    for (const auto& [name, type] : types) {
      Sample from = sample(0, "a.jpg");
      from.image.create(70, 91, type);
      cv::randu(from.image, 0, 200);
      const bool nearest = name == "labels";
      if (nearest) from.labels = from.image;
      const cv::Mat before = from.image.clone();
      Rng rng(5, RngPurpose::kAugmentation, 0, 0);
      Spec<Transform>::of(text("{type: RandomRotate, prob: 1, degree: [", angle, ", ", angle,
                               "], pad_val: 7, seg_pad_val: 7}"))
          .build()
          ->apply(from, rng);
      cv::Mat expected, pixels = before;
      if (type == CV_32S) before.convertTo(pixels, CV_32F);
      cv::warpAffine(pixels, expected, cv::getRotationMatrix2D({45.F, 34.5F}, -angle, 1.0),
                     before.size(), nearest ? cv::INTER_NEAREST : cv::INTER_LINEAR,
                     cv::BORDER_CONSTANT, cv::Scalar::all(7));
      expected.convertTo(expected, type);
      EXPECT_EQ(cv::norm(nearest ? from.labels : from.image, expected, cv::NORM_INF), 0)
          << name << " " << angle;
    }
  }
}

TEST_F(PlannedGeometryTest, OfOtherKindsOfImages) {
  for (const std::string file :
       {"exif_6.jpg", "gray.jpg", "inks.jpg", "gray16.png", "palette.png"}) {
    const std::string image = source_path("tests/data/images/" + file);
    for (const std::string load :
         {"{type: LoadImageFromFile}", "{type: LoadImageFromFile, to_float32: true}",
          "{type: LoadImageFromFile, color_type: grayscale}",
          "{type: LoadImageFromFile, color_type: unchanged}"}) {
      compare_images({load, "{type: Resize, scale: [31, 27]}", kLoadImage,
                      "{type: RandomCrop, crop_size: [9, 11]}", "{type: RandomFlip, prob: 0.5}"},
                     image);
    }
  }
  compare_images({kLoadImage, "{type: RandomFlip, prob: 0.5}", "{type: LoadImageFromFile}",
                  "{type: RandomCrop, crop_size: [50, 41]}"},
                 dir_ / "a.jpg");
}

TEST_F(PlannedGeometryTest, OfOtherWaysToResize) {
  for (const std::string how :
       {"interpolation: nearest", "interpolation: bicubic", "interpolation: area",
        "backend: pillow", "backend: pillow, interpolation: nearest"}) {
    compare({kLoadImage, kLoadLabels, "{type: Resize, scale: [77, 101], " + how + "}",
             "{type: RandomCrop, crop_size: [50, 41]}", "{type: RandomFlip, prob: 0.5}"});
  }
  compare({kLoadImage, kLoadLabels, "{type: Resize, scale: [65, 45]}",  // halves are means
           "{type: RandomCrop, crop_size: [30, 31]}", "{type: RandomFlip, prob: 0.5}"});
  compare({kLoadImage, kLoadLabels, "{type: RandomChoiceResize, scales: [60, 90, 131]}",
           "{type: RandomCrop, crop_size: 55}"});
  compare({kLoadImage, kLoadLabels, "{type: ResizeShortestEdge, scale: 80, max_size: 100}",
           "{type: RandomCrop, crop_size: 55}"});
}

TEST_F(PlannedGeometryTest, OfBranchesUnderTestTimeAugmentation) {
  const Pipeline pipeline(specs(
      {kLoadImage,
       "{type: TestTimeAug, transforms: [[{type: Resize, scale_factor: 0.5, keep_ratio: true}, "
       "{type: Resize, scale_factor: 1.5, keep_ratio: true}], [{type: RandomFlip, prob: 0.0}, "
       "{type: RandomFlip, prob: 1.0}], [{type: LoadAnnotations}]]}"}));
  const auto samples = pipeline.run(sample(0, "a.jpg"), 5, 0);
  ASSERT_EQ(samples.size(), 4U);
  for (const size_t i : {0U, 2U}) {
    cv::Mat flipped;
    cv::flip(samples[i].image, flipped, 1);
    EXPECT_EQ(cv::norm(samples[i + 1].image, flipped, cv::NORM_INF), 0);
  }
  EXPECT_EQ(samples[0].image.size(), cv::Size(65, 45));
  EXPECT_EQ(samples[2].image.size(), cv::Size(195, 135));
  EXPECT_EQ(samples[3].labels.size(), cv::Size(130, 90)) << "labels were loaded after the steps";
}

TEST_F(PlannedGeometryTest, SaysWhichFileCannotBeDecoded) {
  const auto bytes = read_file_bytes(dir_ / "a.jpg");
  const std::string path = dir_.write(
      "broken.jpg", std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size() / 2));
  const Pipeline pipeline(specs({kLoadImage, "{type: RandomFlip, prob: 1.0}"}));
  Sample broken;
  broken.meta.img_path = path;
  try {
    pipeline.run(broken, 5, 0);
    FAIL() << "a damaged file was read";
  } catch (const DataError& e) {
    EXPECT_EQ(std::string(e.what()),
              path + ": damaged JPEG file: the file ends before the picture does");
  }
}

}  // namespace
}  // namespace seg
