#include "runners/evaluate/raster_prediction.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <opencv2/core.hpp>

#include "registry/error.hpp"
#include "segcore/torch.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg {
namespace {

using test::TempDir;

const Palette kFiveColours{{0, 0, 0}, {50, 0, 0}, {100, 0, 0}, {150, 0, 0}, {200, 0, 0}};

/// A stand-in for a model: the class of a pixel is its value modulo five, but wrong at the edges of
/// what is predicted at once, as those of models are.
PredictedWindow predict_modulo(const std::string& path, const cv::Rect& window, int margin,
                               const cv::Size& raster) {
  PredictedWindow out;
  out.image = read_image_window(path, window, ImageFlag::kUnchanged);
  out.ids = at::zeros({window.height, window.width}, at::kLong);
  for (int y = 0; y < window.height; ++y) {
    for (int x = 0; x < window.width; ++x) {
      const bool at_edge =
          (x < margin && window.x > 0) || (y < margin && window.y > 0) ||
          (window.x + window.width < raster.width && x >= window.width - margin) ||
          (window.y + window.height < raster.height && y >= window.height - margin);
      out.ids[y][x] = at_edge ? 4 : out.image.at<cv::Vec2b>(y, x)[0] % 4;
    }
  }
  return out;
}

TEST(RasterPrediction, TilesMakeUpTheRaster) {
  const TempDir dir;
  for (const cv::Size size : {cv::Size(150, 100), cv::Size(60, 20), cv::Size(64, 64)}) {
    cv::Mat pixels(size, CV_8UC2);
    cv::RNG random(5);
    random.fill(pixels, cv::RNG::UNIFORM, 0, 250);
    pixels.at<cv::Vec2b>(10, 11) = cv::Vec2b(251, 251);
    pixels.at<cv::Vec2b>(10, 12) = cv::Vec2b(250, 251);  // one band has data
    RasterForm form{.block = 16, .nodata = 251};
    form.georeference.tiepoints = {0, 0, 0, 7, 8, 0};
    form.georeference.pixel_scale = {2, 2, 0};
    const std::string path = dir / "in.tif";
    write_raster(path, pixels, form);
    const auto source = raster_source(path);
    ASSERT_TRUE(source);
    const RasterTiles tiles(64, 20);  // keeps 32 of 64
    ASSERT_EQ(tiles.core, 32);
    int windows = 0;
    predict_by_tiles(*source, tiles,
                     {.ids = dir / "ids.tif",
                      .shown = dir / "shown.png",
                      .palette = kFiveColours,
                      .classes = 5,
                      .opacity = 1},
                     [&](const cv::Rect& window) {
                       ++windows;
                       EXPECT_EQ(window.width, std::min(64, size.width));
                       EXPECT_EQ(window.height, std::min(64, size.height));
                       return predict_modulo(path, window, 10, size);
                     });
    EXPECT_EQ(windows, (size.width + 31) / 32 * ((size.height + 31) / 32));
    const cv::Mat ids = read_labels(dir / "ids.tif");
    ASSERT_EQ(ids.size(), size);
    for (int y = 0; y < size.height; ++y) {
      for (int x = 0; x < size.width; ++x) {
        const int expected = y == 10 && x == 11 ? 255 : pixels.at<cv::Vec2b>(y, x)[0] % 4;
        ASSERT_EQ(ids.at<uint8_t>(y, x), expected) << y << ", " << x;
      }
    }
    EXPECT_EQ(read_georeference(dir / "ids.tif"), form.georeference);
    EXPECT_EQ(read_image_info(dir / "ids.tif").nodata, 255);
    const cv::Mat shown = read_image(dir / "shown.png");
    ASSERT_EQ(shown.size(), size);
    EXPECT_EQ(shown.at<cv::Vec3b>(0, 0)[2], 50 * (pixels.at<cv::Vec2b>(0, 0)[0] % 4));
  }
}

TEST(RasterPrediction, ReportsALoaderThatReadsNoWindows) {
  const TempDir dir;
  write_raster(dir / "in.tif", cv::Mat(100, 100, CV_8UC1, cv::Scalar(1)), {.block = 16});
  const auto source = raster_source(dir / "in.tif");
  try {
    predict_by_tiles(*source, {64, 0},
                     {.ids = dir / "ids.tif",
                      .shown = dir / "shown.png",
                      .palette = kFiveColours,
                      .classes = 5,
                      .opacity = 1},
                     [](const cv::Rect&) {
                       return PredictedWindow{cv::Mat(100, 100, CV_8UC1), at::zeros({100, 100})};
                     });
    ADD_FAILURE() << "no error";
  } catch (const DataError& e) {
    EXPECT_EQ(std::string(e.what()),
              dir / "in.tif" +
                  ": a tile of 64x64 pixels was loaded as 100x100: the step of the pipeline that "
                  "loads images reads no parts of them; use LoadImageFromFile");
  }
  EXPECT_FALSE(std::filesystem::exists(dir / "ids.tif"));
}

TEST(RasterPrediction, ManyClassesTakeSixteenBits) {
  const TempDir dir;
  write_raster(dir / "in.tif", cv::Mat(20, 20, CV_8UC1, cv::Scalar(1)), {.nodata = 1});
  const auto source = raster_source(dir / "in.tif");
  const RasterForm form = class_raster_form(*source, 20, 20, 300, {});
  EXPECT_EQ(form.type, CV_16UC1);
  EXPECT_EQ(form.nodata, 65535);
  const cv::Mat ids =
      class_raster_pixels(at::full({20, 20}, 299), source->missing({0, 0, 20, 20}), form);
  EXPECT_EQ(ids.at<uint16_t>(3, 3), 65535);
  EXPECT_EQ(class_raster_pixels(at::full({2, 2}, 299), {}, form).at<uint16_t>(1, 1), 299);
  EXPECT_FALSE(raster_source(dir / "in.png"));
}

}  // namespace
}  // namespace seg
