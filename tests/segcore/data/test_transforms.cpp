#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <opencv2/core.hpp>
#include <random>

#include "segcore/data/pipeline.hpp"
#include "segcore/data/transforms/random_crop.hpp"
#include "segcore/image/image_io.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg {
namespace {

using test::spec_error;
using test::TempDir;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

Rng test_rng(uint64_t sample = 0) { return Rng(7, RngPurpose::kAugmentation, 0, sample); }

/// Every pixel holds its position: bands are row, column and their sum.
Sample map_sample(int height, int width) {
  Sample sample;
  sample.meta.img_path = "a.png";
  sample.image = cv::Mat(height, width, CV_8UC3);
  sample.labels = cv::Mat(height, width, CV_8U);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      sample.image.at<cv::Vec3b>(y, x) = {static_cast<uint8_t>(y), static_cast<uint8_t>(x),
                                          static_cast<uint8_t>(x + y)};
      sample.labels.at<uint8_t>(y, x) = static_cast<uint8_t>((x + 2 * y) % 5);
    }
  }
  sample.meta.ori_shape = {height, width};
  return sample;
}

void apply(const std::string& yaml, Sample& sample, Rng& rng) {
  Spec<Transform>::of(yaml).build()->apply(sample, rng);
}
void apply(const std::string& yaml, Sample& sample) {
  Rng rng = test_rng();
  apply(yaml, sample, rng);
}

std::string data_error(const std::function<void()>& f) {
  try {
    f();
  } catch (const DataError& e) {
    return e.what();
  }
  return "no error";
}

bool same_pixels(const cv::Mat& a, const cv::Mat& b) {
  return a.size() == b.size() && a.type() == b.type() &&
         cv::norm(a.reshape(1), b.reshape(1), cv::NORM_INF) == 0;
}

TEST(RandomCropTest, KeepsImageAndLabelsTogether) {
  const Sample whole = map_sample(40, 60);
  std::map<std::pair<int, int>, int> seen;
  for (uint64_t i = 0; i < 300; ++i) {
    Sample sample = whole;
    Rng rng = test_rng(i);
    apply("{type: RandomCrop, crop_size: [38, 59]}", sample, rng);
    ASSERT_EQ(sample.image.size(), cv::Size(59, 38));
    const int y = sample.image.at<cv::Vec3b>(0, 0)[0], x = sample.image.at<cv::Vec3b>(0, 0)[1];
    ++seen[{y, x}];
    EXPECT_TRUE(same_pixels(sample.labels, whole.labels(cv::Rect(x, y, 59, 38))));
  }
  EXPECT_EQ(seen.size(), 6U);  // 3 rows, 2 columns
  for (const auto& [place, count] : seen) EXPECT_GT(count, 25);
}

TEST(RandomCropTest, LeavesSmallImagesAsTheyAre) {
  Sample sample = map_sample(10, 60);
  apply("{type: RandomCrop, crop_size: 32}", sample);
  EXPECT_EQ(sample.image.size(), cv::Size(32, 10));
  EXPECT_EQ(sample.labels.size(), cv::Size(32, 10));
}

TEST(RandomCropTest, DrawsAgainWhileOneClassFillsTheCrop) {
  Sample whole = map_sample(64, 64);
  whole.labels = cv::Mat::zeros(64, 64, CV_8U);
  whole.labels(cv::Rect(0, 0, 10, 64)).setTo(255);
  whole.labels(cv::Rect(48, 0, 16, 64)).setTo(3);
  const auto share_of_mixed = [&](const cv::Mat& labels, const std::string& ratio) {
    int mixed = 0;
    for (uint64_t i = 0; i < 200; ++i) {
      Sample sample = whole;
      sample.labels = labels.clone();
      Rng rng = test_rng(i);
      apply("{type: RandomCrop, crop_size: 16, cat_max_ratio: " + ratio + "}", sample, rng);
      const int three = cv::countNonZero(sample.labels == 3);
      mixed += three > 16 * 16 / 10 && three < 16 * 16 * 9 / 10;
    }
    return mixed;
  };
  const int plain = share_of_mixed(whole.labels, "1.0");
  EXPECT_LT(plain, 90);
  EXPECT_GT(share_of_mixed(whole.labels, "0.9"), 190);
  cv::Mat wide;
  whole.labels.convertTo(wide, CV_32S);
  EXPECT_GT(share_of_mixed(wide, "0.9"), 190);
}

TEST(RandomCropTest, CountsClassesInRunsOfAnyLength) {
  std::mt19937 random(4);
  for (int draw = 0; draw < 200; ++draw) {
    cv::Mat labels(5, 1 + static_cast<int>(random() % 80), CV_8U);
    std::map<int, int> counts;
    const unsigned longest = 1 + random() % 60;
    uint8_t label = 0;
    for (unsigned i = 0, left = 0; i < labels.total(); ++i, --left) {
      if (left == 0) {
        left = 1 + random() % longest;
        label = random() % 4 == 0 ? 255 : static_cast<uint8_t>(random() % 3 * 90);
      }
      labels.data[i] = label;
      if (label != 255) ++counts[label];
    }
    int most = 0, total = 0;
    for (const auto& [unused, count] : counts) {
      most = std::max(most, count);
      total += count;
    }
    const double share = total == 0 ? 1.0 : static_cast<double>(most) / total;
    EXPECT_FALSE(classes_are_mixed(labels, share, 255));
    EXPECT_EQ(classes_are_mixed(labels, share + 1e-6, 255), counts.size() > 1);
  }
}

TEST(RandomFlipTest, LabelsAreFlippedAsOpenCvDoes) {
  for (const int width : {1, 15, 16, 17, 40, 64}) {
    cv::Mat labels(3, width, CV_8U), expected;
    cv::randu(labels, 0, 256);
    for (const auto& [direction, code] :
         std::map<std::string, int>{{"horizontal", 1}, {"vertical", 0}, {"diagonal", -1}}) {
      Sample sample = map_sample(3, width);
      sample.labels = labels.clone();
      Rng rng = test_rng(1);
      apply("{type: RandomFlip, prob: 1.0, direction: " + direction + "}", sample, rng);
      cv::flip(labels, expected, code);
      EXPECT_EQ(cv::norm(sample.labels, expected, cv::NORM_INF), 0) << direction << " " << width;
    }
  }
}

TEST(RandomFlipTest, DirectionsHaveTheirProbabilities) {
  const auto count = [](const std::string& yaml) {
    std::map<std::string, int> out;
    const auto flip = Spec<Transform>::of(yaml).build();
    for (uint64_t i = 0; i < 2000; ++i) {
      Sample sample = map_sample(4, 6);
      Rng rng = test_rng(i);
      flip->apply(sample, rng);
      EXPECT_EQ(sample.meta.flip, !sample.meta.flip_direction.empty());
      ++out[sample.meta.flip_direction];
    }
    return out;
  };
  auto seen = count("{type: RandomFlip, prob: 0.5, direction: [horizontal, vertical]}");
  EXPECT_NEAR(seen[""], 1000, 100);
  EXPECT_NEAR(seen["horizontal"], 500, 80);
  EXPECT_NEAR(seen["vertical"], 500, 80);
  seen = count("{type: RandomFlip, prob: [0.1, 0.6], direction: [diagonal, vertical]}");
  EXPECT_NEAR(seen["diagonal"], 200, 60);
  EXPECT_NEAR(seen["vertical"], 1200, 100);
  seen = count(
      "{type: RandomFlip, prob: [0.3, 0.3, 0.4], direction: [horizontal, vertical, "
      "diagonal]}");
  EXPECT_EQ(seen[""], 0);
  EXPECT_EQ(count("{type: RandomFlip, prob: 0.0}")[""], 2000);
}

TEST(RandomFlipTest, SwapsClassesOfWideLabelsToo) {
  Sample sample = map_sample(4, 6);
  cv::Mat wide;
  sample.labels.convertTo(wide, CV_32S);
  sample.labels = wide + 1000;
  apply("{type: RandomFlip, prob: 1.0, swap_seg_labels: [[1000, 1003]]}", sample);
  EXPECT_EQ(sample.labels.at<int32_t>(0, 5), 1003);
  EXPECT_EQ(sample.labels.at<int32_t>(0, 2), 1000);
}

TEST(RandomResizeTest, DrawsOneRatioForBothSides) {
  double low = 10, high = 0;
  for (uint64_t i = 0; i < 200; ++i) {
    Sample sample = map_sample(20, 40);
    Rng rng = test_rng(i);
    apply("{type: RandomResize, scale: [40, 20], ratio_range: [0.5, 2.0]}", sample, rng);
    const double width = sample.image.cols / 40.0, height = sample.image.rows / 20.0;
    EXPECT_NEAR(width, height, 0.06);
    EXPECT_EQ(sample.labels.size(), sample.image.size());
    EXPECT_EQ(sample.meta.scale_factor[0], width);
    low = std::min(low, width);
    high = std::max(high, width);
  }
  EXPECT_LT(low, 0.56);
  EXPECT_GT(high, 1.9);
}

TEST(PhotoMetricDistortionTest, EachStepComesHalfOfTheTime) {
  int unchanged = 0;
  const auto distort = Spec<Transform>::of("{type: PhotoMetricDistortion}").build();
  const Sample whole = map_sample(16, 16);
  for (uint64_t i = 0; i < 800; ++i) {
    Sample sample = whole;
    Rng rng = test_rng(i);
    distort->apply(sample, rng);
    unchanged += same_pixels(sample.image, whole.image);
  }
  EXPECT_NEAR(unchanged, 50, 30);  // one in sixteen
}

TEST(PhotoMetricDistortionTest, RefusesOtherImages) {
  Sample sample = map_sample(4, 4);
  sample.image = cv::Mat::zeros(4, 4, CV_16UC(8));
  EXPECT_EQ(data_error([&] { apply("{type: PhotoMetricDistortion}", sample); }),
            "a.png: PhotoMetricDistortion needs images with 3 bands of uint8, this one has 8 bands "
            "of uint16. Take it out of the pipeline");
}

TEST(GeometryTest, KeepsManyBandsAndSixteenBits) {
  for (const int type : {CV_16UC(12), CV_8UC(5), CV_32FC(7), CV_16UC1}) {
    Sample sample = map_sample(30, 40);
    sample.image = cv::Mat(30, 40, type);
    cv::randu(sample.image.reshape(1), 0, 250);
    apply("{type: Resize, scale: [80, 70]}", sample);
    apply("{type: RandomRotate, prob: 1, degree: 20, pad_val: 3}", sample);
    apply("{type: Pad, size: [90, 90], pad_val: {img: 7, seg: 255}}", sample);
    apply("{type: RandomFlip, prob: 1.0, direction: diagonal}", sample);
    apply("{type: RandomCrop, crop_size: 64}", sample);
    apply("{type: RandomRotFlip, rotate_prob: 0.0, flip_prob: 1.0}", sample);
    apply("{type: RandomCutOut, prob: 1, n_holes: 2, cutout_shape: [5, 6], fill_in: [0]}", sample);
    EXPECT_EQ(sample.image.type(), type);
    EXPECT_EQ(sample.image.size(), cv::Size(64, 64));
    EXPECT_EQ(sample.labels.type(), CV_8U);
    const PackedSample packed = pack(sample);
    EXPECT_EQ(packed.image.size(0), CV_MAT_CN(type));
  }
}

TEST(GeometryTest, WarpsEveryBandAlike) {
  Sample sample = map_sample(20, 30);
  cv::Mat one(20, 30, CV_8U);
  cv::randu(one, 0, 250);
  cv::merge(std::vector<cv::Mat>(9, one), sample.image);
  apply("{type: RandomRotate, prob: 1, degree: [12, 12], pad_val: 200}", sample);
  std::vector<cv::Mat> bands;
  cv::split(sample.image, bands);
  for (const cv::Mat& band : bands) EXPECT_TRUE(same_pixels(band, bands[0]));
  EXPECT_EQ(bands[0].at<uint8_t>(0, 0), 200);
}

TEST(RandomRotateTest, KeepsWideLabelsWhole) {
  Sample sample = map_sample(20, 30);
  sample.labels = cv::Mat(20, 30, CV_32S, cv::Scalar(70001));
  apply("{type: RandomRotate, prob: 1, degree: [30, 30], seg_pad_val: 9}", sample);
  EXPECT_EQ(sample.labels.depth(), CV_32S);
  EXPECT_EQ(sample.labels.at<int32_t>(0, 0), 9);
  EXPECT_EQ(sample.labels.at<int32_t>(10, 15), 70001);
}

TEST(RandomCutOutTest, FillsImageAndLabels) {
  Sample sample = map_sample(20, 30);
  sample.labels.setTo(1);
  apply(
      "{type: RandomCutOut, prob: 1, n_holes: [3, 3], cutout_ratio: [[0.5, 0.5], [0.4, 0.6]], "
      "fill_in: [200, 201, 202], seg_fill_in: 255}",
      sample);
  const int holes = cv::countNonZero(sample.labels == 255);
  EXPECT_GT(holes, 0);
  for (int y = 0; y < 20; ++y) {
    for (int x = 0; x < 30; ++x) {
      const bool filled = sample.image.at<cv::Vec3b>(y, x) == cv::Vec3b(200, 201, 202);
      EXPECT_EQ(filled, sample.labels.at<uint8_t>(y, x) == 255);
    }
  }
}

TEST(TransformTest, DoesNotTouchPixelsThatOthersHold) {
  const Sample whole = map_sample(24, 24);
  const cv::Mat image = whole.image.clone(), labels = whole.labels.clone();
  for (const char* yaml :
       {"{type: PhotoMetricDistortion}", "{type: AdjustGamma, gamma: 2.0}", "{type: CLAHE}",
        "{type: RandomCutOut, prob: 1, n_holes: 4, cutout_shape: [9, 9], seg_fill_in: 3}",
        "{type: RandomFlip, prob: 1.0, swap_seg_labels: [[0, 1]]}",
        "{type: Normalize, mean: [1, "
        "2, 3], std: [1, 2, 3]}"}) {
    Sample copy = whole;
    for (uint64_t i = 0; i < 5; ++i) {
      Rng rng = test_rng(i);
      Sample once = copy;
      apply(yaml, once, rng);
    }
    EXPECT_TRUE(same_pixels(whole.image, image)) << yaml;
    EXPECT_TRUE(same_pixels(whole.labels, labels)) << yaml;
  }
}

TEST(LoadAnnotationsTest, MapsZeroAndClasses) {
  const TempDir dir;
  cv::Mat raw(1, 6, CV_8U);
  const std::array<uint8_t, 6> values{0, 1, 2, 3, 254, 255};
  std::copy(values.begin(), values.end(), raw.data);
  write_png(dir / "l.png", raw);
  Sample sample;
  sample.meta.seg_map_path = dir / "l.png";
  const auto load = [&](bool reduce, std::vector<std::pair<int64_t, int64_t>> map) {
    Sample out = sample;
    out.reduce_zero_label = reduce;
    out.label_map = std::move(map);
    apply("{type: LoadAnnotations}", out);
    return std::vector<int>(out.labels.begin<uint8_t>(), out.labels.end<uint8_t>());
  };
  EXPECT_THAT(load(false, {}), ElementsAre(0, 1, 2, 3, 254, 255));
  EXPECT_THAT(load(true, {}), ElementsAre(255, 0, 1, 2, 253, 255));
  EXPECT_THAT(load(false, {{0, 1}, {1, 0}, {2, -1}}), ElementsAre(1, 0, 255, 3, 254, 255));
  EXPECT_THAT(load(true, {{0, 5}, {1, 0}, {2, 255}}), ElementsAre(255, 5, 0, 255, 253, 255));
}

TEST(LoadAnnotationsTest, LabelsAreReducedInRowsOfAnyWidth) {
  const TempDir dir;
  for (const int width : {1, 15, 16, 17, 100}) {
    cv::Mat raw(7, width, CV_8U);
    cv::randu(raw, 0, 256);
    raw.at<uint8_t>(0, 0) = 0;
    raw.at<uint8_t>(6, width - 1) = 255;
    Sample sample;
    sample.meta.seg_map_path = dir / "labels.png";
    sample.reduce_zero_label = true;
    write_png(sample.meta.seg_map_path, raw);
    apply("{type: LoadAnnotations}", sample);
    for (int y = 0; y < raw.rows; ++y) {
      for (int x = 0; x < width; ++x) {
        const int before = raw.at<uint8_t>(y, x);
        ASSERT_EQ(sample.labels.at<uint8_t>(y, x), before == 0 || before == 255 ? 255 : before - 1);
      }
    }
  }
}

TEST(GeometryTest, EachStepNamesItselfWhereThereIsNoImage) {
  for (const auto& [name, options] :
       std::map<std::string, std::string>{{"Resize", "scale: 9"},
                                          {"RandomResize", "scale: [9, 9], ratio_range: [1, 2]"},
                                          {"RandomChoiceResize", "scales: [9]"},
                                          {"ResizeShortestEdge", "scale: 9, max_size: 9"},
                                          {"RandomCrop", "crop_size: 9"},
                                          {"CenterCrop", "crop_size: 9"},
                                          {"RandomFlip", "prob: 0.5"}}) {
    Sample sample;
    sample.meta.img_path = "a.png";
    const auto step = Spec<Transform>::of(text("{type: ", name, ", ", options, "}")).build();
    Rng rng = test_rng();
    EXPECT_EQ(data_error([&] { step->apply(sample, rng); }),
              text("a.png: ", name, " has no image to work on: put a LoadImageFromFile before it"));
  }
}

TEST(LoadAnnotationsTest, ReadsPaletteIndices) {
  const TempDir dir;
  cv::Mat raw = (cv::Mat_<uint8_t>(1, 3) << 0, 2, 1);
  write_palette_png(dir / "l.png", raw, {{10, 20, 30}, {40, 50, 60}, {70, 80, 90}});
  Sample sample;
  sample.meta.seg_map_path = dir / "l.png";
  apply("{type: LoadAnnotations}", sample);
  EXPECT_TRUE(same_pixels(sample.labels, raw));
}

TEST(LoadAnnotationsTest, ReportsWhatDoesNotFit) {
  const TempDir dir;
  write_png(dir / "i.png", cv::Mat::zeros(4, 5, CV_8UC3));
  write_png(dir / "l.png", cv::Mat::zeros(4, 6, CV_8U));
  Sample sample;
  sample.meta.img_path = dir / "i.png";
  sample.meta.seg_map_path = dir / "l.png";
  Sample first = sample;
  const std::string expected = (dir / "l.png") +
                               ": the labels are 6 x 4 pixels (width x height), but the image " +
                               (dir / "i.png") + " is 5 x 4";
  EXPECT_EQ(data_error([&] {
              apply("{type: LoadImageFromFile}", first);
              apply("{type: LoadAnnotations}", first);
            }),
            expected);
  Sample second = sample;
  EXPECT_EQ(data_error([&] {
              apply("{type: LoadAnnotations}", second);
              apply("{type: LoadImageFromFile}", second);
            }),
            expected);
  EXPECT_EQ(data_error([&] { apply("{type: LoadAnnotations, reduce_zero_label: true}", sample); }),
            (dir / "l.png") +
                ": LoadAnnotations has reduce_zero_label: true, the data set has false. "
                "Set it at the data set and leave it out of LoadAnnotations");
}

TEST(LoadImageFromFileTest, NotesSizesAndTypes) {
  const TempDir dir;
  cv::Mat raw(4, 5, CV_8UC3, cv::Scalar(1, 2, 3));
  write_png(dir / "i.png", raw);
  Sample sample;
  sample.meta.img_path = dir / "i.png";
  apply("{type: LoadImageFromFile, to_float32: true}", sample);
  EXPECT_EQ(sample.image.type(), CV_32FC3);
  EXPECT_EQ(sample.image.at<cv::Vec3f>(0, 0), cv::Vec3f(1, 2, 3));
  EXPECT_EQ(sample.meta.ori_shape, (std::array<int64_t, 2>{4, 5}));
  Sample grey;
  grey.meta.img_path = dir / "i.png";
  apply("{type: LoadImageFromFile, color_type: grayscale}", grey);
  EXPECT_EQ(grey.image.type(), CV_8UC1);
  Sample none;
  none.meta.img_path = dir / "none.png";
  EXPECT_THAT(data_error([&] { apply("{type: LoadImageFromFile}", none); }),
              HasSubstr(dir / "none.png"));
  EXPECT_THROW(apply("{type: LoadImageFromFile, ignore_empty: true}", none), EmptySample);
}

TEST(TransformTest, ReportsAMissingImage) {
  Sample sample;
  sample.meta.img_path = "x.png";
  EXPECT_EQ(data_error([&] { apply("{type: Resize, scale: 4}", sample); }),
            "x.png: Resize has no image to work on: put a LoadImageFromFile before it");
}

TEST(TransformErrorsTest, OfOptions) {
  EXPECT_THAT(spec_error<Transform>("{type: Resize}"),
              HasSubstr("Resize needs 'scale' or 'scale_factor'"));
  EXPECT_THAT(spec_error<Transform>("{type: Resize, scale: 0}"),
              HasSubstr("scale: must be at least 1, got 0"));
  EXPECT_THAT(spec_error<Transform>("{type: Resize, scale: 8, interpolation: bilinaer}"),
              HasSubstr("the back end cv2 has no 'bilinaer'. Did you mean 'bilinear'?"));
  EXPECT_THAT(spec_error<Transform>("{type: Resize, scale: 8, backend: pillow, interpolation: "
                                    "area}"),
              HasSubstr("the back end pillow has no 'area'"));
  EXPECT_THAT(spec_error<Transform>("{type: RandomResize, scale: [8, 8]}"),
              HasSubstr("RandomResize needs 'ratio_range' with one scale"));
  EXPECT_THAT(spec_error<Transform>("{type: RandomResize, scale: [8, 8], ratio_range: [2, 1]}"),
              HasSubstr("the lower bound must not be above the upper one"));
  EXPECT_THAT(spec_error<Transform>("{type: RandomChoiceResize, scales: [8], resize_type: "
                                    "ResizeShortestEdge}"),
              HasSubstr("ResizeShortestEdge needs 'max_size'"));
  EXPECT_THAT(spec_error<Transform>("{type: RandomFlip, prob: 1.5}"),
              HasSubstr("prob: must be between 0 and 1, got 1.5"));
  EXPECT_THAT(spec_error<Transform>("{type: RandomFlip, prob: [0.5], direction: [vertical, "
                                    "diagonal]}"),
              HasSubstr("expected one probability for each of the 2 directions, got 1"));
  EXPECT_THAT(spec_error<Transform>("{type: RandomFlip, prob: 0.5, direction: horizontaly}"),
              HasSubstr("unknown value 'horizontaly'. Did you mean 'horizontal'?"));
  EXPECT_THAT(spec_error<Transform>("{type: Pad}"),
              HasSubstr("Pad needs 'size', 'size_divisor' or 'pad_to_square'"));
  EXPECT_THAT(spec_error<Transform>("{type: RandomCutOut, prob: 1, n_holes: 1}"),
              HasSubstr("RandomCutOut needs either 'cutout_shape' or 'cutout_ratio'"));
  EXPECT_THAT(spec_error<Transform>("{type: RandomRotate, prob: 1, degree: 0}"),
              HasSubstr("degree: must be above 0, got 0"));
  EXPECT_THAT(spec_error<Transform>("{type: Normalize, mean: [1], std: [1]}"),
              HasSubstr("only 3 bands can be turned to RGB"));
  EXPECT_THAT(spec_error<Transform>("{type: LoadImageFromFile, backend_args: {backend: petrel}}"),
              HasSubstr("the back end 'petrel' is not there: files are read from disk"));
  EXPECT_EQ(spec_error<Transform>("{type: LoadImageFromFile, backend_args: null}"), "no error");
  EXPECT_THAT(spec_error<Transform>("{type: TestTimeAug, transforms: [[], [{type: RandomFlop}]]}"),
              HasSubstr("Did you mean 'RandomFlip'?"));
}

}  // namespace
}  // namespace seg
