/// Data sets whose samples are windows of rasters.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <opencv2/core.hpp>
#include <set>

#include "segcore/data/band_statistics.hpp"
#include "segcore/data/class_pixels.hpp"
#include "segcore/data/dataset_check.hpp"
#include "segcore/data/datasets/raster_windows.hpp"
#include "segcore/image/image_io.hpp"
#include "segcore/image/raster_writer.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg {
namespace {

using test::config_error;
using test::spec_error;
using test::TempDir;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int kBands = 10;

/// Ten bands of 16 bits that differ from pixel to pixel.
cv::Mat raster_image(int height, int width, int number) {
  cv::Mat image(height, width, CV_16UC(kBands));
  for (int y = 0; y < height; ++y) {
    auto* row = image.ptr<uint16_t>(y);
    for (int i = 0; i < width * kBands; ++i) {
      row[i] = static_cast<uint16_t>(1000 * number + 97 * y + 13 * i);
    }
  }
  return image;
}

/// Classes 0 to 2 in stripes; the last rows are ignored.
cv::Mat raster_labels(int height, int width, int ignored_rows) {
  cv::Mat labels(height, width, CV_8UC1);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const bool ignored = y >= height - ignored_rows;
      labels.at<uint8_t>(y, x) = static_cast<uint8_t>(ignored ? 255 : (x / 3 + y) % 3);
    }
  }
  return labels;
}

/// a.tif of 40 x 50 pixels and b.tif of 10 x 64; the lower half of a has no labels.
void write_rasters(const TempDir& dir) {
  std::filesystem::create_directories(dir / "img");
  std::filesystem::create_directories(dir / "ann");
  write_raster(dir / "img/a.tif", raster_image(40, 50, 1), {.block = 16});
  write_raster(dir / "ann/a.tif", raster_labels(40, 50, 20), {.block = 16});
  write_raster(dir / "img/b.tif", raster_image(10, 64, 2), {.block = 16});
  write_raster(dir / "ann/b.tif", raster_labels(10, 64, 0), {.block = 16});
}

std::string rasters(const TempDir& dir, const std::string& more) {
  return "{type: BaseSegDataset, data_root: " + dir.path().string() +
         ", data_prefix: {img_path: img, seg_map_path: ann}, img_suffix: .tif, seg_map_suffix: "
         ".tif, metainfo: {classes: [ground, water, wood]}, pipeline: [{type: "
         "LoadSingleRSImageFromFile}, {type: LoadAnnotations}, {type: PackSegInputs}]" +
         more + "}";
}

std::unique_ptr<Dataset> raster_dataset(const TempDir& dir, const std::string& more) {
  return Spec<Dataset>::of(rasters(dir, more)).build();
}

TEST(RasterWindows, CoverASideWithFullWindows) {
  EXPECT_THAT(window_starts(40, 16, 16), ElementsAre(0, 16, 24));
  EXPECT_THAT(window_starts(48, 16, 16), ElementsAre(0, 16, 32));
  EXPECT_THAT(window_starts(49, 16, 16), ElementsAre(0, 16, 32, 33));
  EXPECT_THAT(window_starts(40, 16, 10), ElementsAre(0, 10, 20, 24));
  EXPECT_THAT(window_starts(16, 16, 4), ElementsAre(0));
  EXPECT_THAT(window_starts(9, 16, 4), ElementsAre(0));
  // Further apart than they are large: what is between them is left out.
  EXPECT_THAT(window_starts(40, 8, 20), ElementsAre(0, 20, 32));
}

TEST(RasterWindows, AreTheSamplesOfADataSet) {
  const TempDir dir;
  write_rasters(dir);
  const auto data = raster_dataset(dir, ", windows: {size: [16, 32], stride: [12, 32]}");
  // Of a 3 rows of 2; b is lower than a window and has 2.
  ASSERT_EQ(data->size(), 8u);
  const auto whole = raster_dataset(dir, "");
  ASSERT_EQ(whole->size(), 2u);
  std::set<std::string> names;
  for (size_t i = 0; i < data->size(); ++i) {
    names.insert(data->output_name(i));
    const Sample described = data->describe(i);
    const cv::Rect window = described.meta.window;
    EXPECT_EQ(window.size(), i < 6 ? cv::Size(32, 16) : cv::Size(32, 10));
    const PackedSample found = data->get(i, 0, 0).at(0);
    const PackedSample all = whole->get(i < 6 ? 0 : 1, 0, 0).at(0);
    EXPECT_EQ(found.meta.img_path, all.meta.img_path);
    EXPECT_EQ(found.meta.ori_shape, (std::array<int64_t, 2>{window.height, window.width}));
    const auto cut = [&](const at::Tensor& map) {
      return map.narrow(-2, window.y, window.height).narrow(-1, window.x, window.width);
    };
    EXPECT_TRUE(torch::equal(found.image, cut(all.image)));
    EXPECT_TRUE(torch::equal(found.labels, cut(all.labels)));
  }
  EXPECT_EQ(names.size(), data->size());
  EXPECT_EQ(data->output_name(0), "a_y0_x0");
  EXPECT_EQ(data->output_name(5), "a_y24_x18");
  EXPECT_EQ(data->output_name(7), "b_y0_x32");
}

TEST(RasterWindows, LeaveOutThoseWithoutLabels) {
  const TempDir dir;
  write_rasters(dir);
  const auto names = [&](const std::string& min_valid) {
    const auto data = raster_dataset(
        dir, ", indices: [0], windows: {size: [16, 50], min_valid: " + min_valid + "}");
    std::vector<std::string> out;
    for (size_t i = 0; i < data->size(); ++i) out.push_back(data->output_name(i));
    return out;
  };
  // Rows 0 to 15 are labelled, of 16 to 31 a quarter is, of 24 to 39 none.
  EXPECT_THAT(names("null"), ElementsAre("a_y0_x0", "a_y16_x0", "a_y24_x0"));
  EXPECT_THAT(names("0"), ElementsAre("a_y0_x0", "a_y16_x0"));
  EXPECT_THAT(names("0.25"), ElementsAre("a_y0_x0", "a_y16_x0"));
  EXPECT_THAT(names("0.26"), ElementsAre("a_y0_x0"));
  write_raster(dir / "ann/a.tif", raster_labels(40, 50, 40), {.block = 16});
  EXPECT_THAT(config_error([&] { names("0"); }),
              HasSubstr("windows.min_valid: leaves none of 3 windows: their labels are ignored"));
}

TEST(RasterWindows, CountAndCheckLikeTheWholeWhereTheyDoNotOverlap) {
  const TempDir dir;
  write_rasters(dir);
  const auto whole = raster_dataset(dir, "");
  const auto data = raster_dataset(dir, ", windows: {size: [10, 2]}");
  ASSERT_EQ(data->size(), 4u * 25 + 32);
  EXPECT_EQ(count_class_pixels(*data, 3).pixels, count_class_pixels(*whole, 3).pixels);
  const DatasetCheckParams all{.annotations = DatasetCheckParams::kAll};
  const auto table = [](const std::string& report) { return report.substr(report.find(":\n")); };
  EXPECT_EQ(table(check_dataset(*data, "train", all)), table(check_dataset(*whole, "train", all)));
  // Values that are no class are named where they are in the raster.
  cv::Mat labels = raster_labels(40, 50, 0);
  labels.at<uint8_t>(33, 21) = 77;
  write_raster(dir / "ann/a.tif", labels, {.block = 16});
  try {
    check_dataset(*data, "train", all);
    ADD_FAILURE() << "no error";
  } catch (const DataError& e) {
    EXPECT_THAT(e.what(), HasSubstr("ann/a.tif: the label 77 at row 33, column 21 is none"));
  }
}

TEST(RasterWindows, GoThroughOtherDataSets) {
  const TempDir dir;
  write_rasters(dir);
  const std::string windows = rasters(dir, ", windows: {size: 20}");
  const auto joined =
      Spec<Dataset>::of("{type: ConcatDataset, datasets: [" + windows + ", " + windows + "]}")
          .build();
  const auto one = Spec<Dataset>::of(windows).build();
  ASSERT_EQ(joined->size(), 2 * one->size());
  const auto last = joined->get(joined->size() - 1, 0, 0).at(0);
  EXPECT_TRUE(torch::equal(last.image, one->get(one->size() - 1, 0, 0).at(0).image));
  EXPECT_EQ(last.meta.window, one->describe(one->size() - 1).meta.window);
}

/// Pictures of colours and other formats are cut, too.
TEST(RasterWindows, TakePngsAndColours) {
  const TempDir dir;
  write_rasters(dir);
  cv::Mat colours(40, 50, CV_8UC3, cv::Scalar(3, 2, 1));
  colours.colRange(0, 30).setTo(cv::Scalar(6, 5, 4));
  write_png(dir / "colours/a.png", colours);
  const auto data =
      Spec<Dataset>::of("{type: BaseSegDataset, data_root: " + dir.path().string() +
                        ", data_prefix: {img_path: img, seg_map_path: colours}, img_suffix: "
                        "a.tif, seg_map_suffix: a.png, label_colors: palette, metainfo: {classes: "
                        "[ground, water], palette: [[1, 2, 3], [4, 5, 6]]}, windows: {size: 20}, "
                        "pipeline: [{type: LoadImageFromFile, color_type: unchanged}, {type: "
                        "LoadAnnotations}, {type: PackSegInputs}]}")
          .build();
  ASSERT_EQ(data->size(), 6u);  // columns from 0, 20 and 30
  EXPECT_EQ(data->get(0, 0, 0)[0].labels.sum().item<int64_t>(), 20 * 20);
  EXPECT_EQ(data->get(1, 0, 0)[0].labels.sum().item<int64_t>(), 20 * 10);
  EXPECT_EQ(data->get(2, 0, 0)[0].labels.sum().item<int64_t>(), 0);
}

TEST(RasterWindows, ReportWhatIsWrong) {
  const TempDir dir;
  write_rasters(dir);
  const auto error = [&](const std::string& more) {
    return config_error([&] { raster_dataset(dir, more); });
  };
  EXPECT_THAT(error(", windows: {size: 0}"), HasSubstr("windows.size: must be at least 1, got 0"));
  EXPECT_THAT(error(", windows: {stride: 4}"), HasSubstr("needs 'size'"));
  EXPECT_THAT(error(", windows: {size: 4, min_valid: 2}"),
              HasSubstr("windows.min_valid: must be between 0 and 1, got 2"));
  EXPECT_THAT(error(", windows: {size: 4}, cache: ram"),
              HasSubstr("cache: copies whole files, of which windows read parts: remove one of the "
                        "two"));
  EXPECT_THAT(error(", windows: {size: 4}, ann_file: a.json"),
              HasSubstr("windows: are of rasters with labels of pixels, not of shapes (.json)"));
  EXPECT_THAT(spec_error<Dataset>("{type: NYUDataset, windows: {size: 4}}"),
              HasSubstr("windows: are of data sets of classes; maps of depth are read as a whole"));
  const std::string unlabelled =
      "{type: BaseSegDataset, data_root: " + dir.path().string() +
      ", data_prefix: {img_path: img}, img_suffix: .tif, windows: {size: 9, min_valid: 0}, "
      "pipeline: [{type: LoadSingleRSImageFromFile}, {type: PackSegInputs}]}";
  EXPECT_THAT(config_error([&] { Spec<Dataset>::of(unlabelled).build(); }),
              HasSubstr("windows.min_valid: needs labels, which no step of the pipeline loads"));
  write_raster(dir / "ann/b.tif", raster_labels(10, 63, 0), {.block = 16});
  try {
    raster_dataset(dir, ", windows: {size: 9}");
    ADD_FAILURE() << "no error";
  } catch (const DataError& e) {
    EXPECT_EQ(std::string(e.what()),
              dir / "ann/b.tif" +
                  ": the labels are 63 x 10 pixels (width x height), but the image " +
                  dir / "img/b.tif" + " is 64 x 10");
  }
  // Where unusable samples are skipped, so are the windows of such a raster.
  EXPECT_EQ(raster_dataset(dir, ", windows: {size: 25}, skip_corrupt: true")->size(), 4u);
}

TEST(BandStatistics, AreThoseOfAllPixels) {
  const TempDir dir;
  write_rasters(dir);
  const auto windows = raster_dataset(dir, ", windows: {size: [10, 2]}");
  const BandStatistics found = band_statistics(*windows, windows->size());
  ASSERT_EQ(found.mean.size(), size_t{kBands});
  EXPECT_EQ(found.images, 132);
  std::vector<double> values;
  for (const auto& image : {raster_image(40, 50, 1), raster_image(10, 64, 2)}) {
    for (int y = 0; y < image.rows; ++y) {
      for (int x = 0; x < image.cols; ++x) values.push_back(image.ptr<uint16_t>(y)[x * kBands + 7]);
    }
  }
  double sum = 0, squares = 0;
  for (const double v : values) sum += v;
  const double mean = sum / static_cast<double>(values.size());
  for (const double v : values) squares += (v - mean) * (v - mean);
  EXPECT_NEAR(found.mean[7], mean, 1e-9 * mean);
  EXPECT_NEAR(found.std[7], std::sqrt(squares / static_cast<double>(values.size())), 1e-6);
  EXPECT_EQ(preprocessor_yaml({.mean = {1.5, 2}, .std = {0.25, 3}, .images = 1}),
            "mean: [1.5, 2]\nstd: [0.25, 3]");
  EXPECT_EQ(preprocessor_yaml({.mean = {1, 2, 3}, .std = {4, 5, 6}, .images = 1}),
            "mean: [3, 2, 1]\nstd: [6, 5, 4]\nbgr_to_rgb: true");
}

}  // namespace
}  // namespace seg
