#include <gtest/gtest.h>

#include <algorithm>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>
#include <set>

#include "segcore/evaluation/pictures.hpp"
#include "segcore/image/image_io.hpp"
#include "segcore/torch.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg {
namespace {

const Palette kTwo{{{255, 0, 0}}, {{0, 0, 255}}};

at::Tensor picture_labels() { return torch::tensor({0, 1, 255, 0}, at::kLong).reshape({2, 2}); }

TEST(Pictures, DefaultColoursDifferAndStay) {
  const Palette palette = default_palette(255);
  EXPECT_EQ(palette[0], (std::array<int, 3>{230, 25, 75}));
  EXPECT_EQ(std::set(palette.begin(), palette.end()).size(), 255u);
  const Palette few = default_palette(20);
  EXPECT_TRUE(std::equal(few.begin(), few.end(), palette.begin())) << "for any number of classes";
  EXPECT_EQ(default_palette(2000).size(), 2000u);
  EXPECT_TRUE(default_palette(0).empty());
  EXPECT_EQ(palette_or_default(kTwo, 2), kTwo);
  EXPECT_EQ(palette_or_default(kTwo, 3).size(), 3u);
}

/// Hue in degrees where a colour is not too pale or dark to have one, else -1.
double hue_of(const std::array<int, 3>& rgb) {
  const cv::Mat pixel(1, 1, CV_32FC3, cv::Scalar(rgb[2] / 255.0, rgb[1] / 255.0, rgb[0] / 255.0));
  cv::Mat hsv;
  cv::cvtColor(pixel, hsv, cv::COLOR_BGR2HSV);
  const auto v = hsv.at<cv::Vec3f>(0, 0);
  return v[1] < 0.3 || v[2] < 0.2 ? -1 : v[0];
}

TEST(Pictures, DefaultColoursOfFewClassesContrast) {
  const Palette palette = default_palette(12);
  cv::Mat lab(1, 12, CV_32FC3);
  for (int c = 0; c < 12; ++c) {
    const auto& rgb = palette[static_cast<size_t>(c)];
    lab.at<cv::Vec3f>(0, c) = {rgb[2] / 255.0F, rgb[1] / 255.0F, rgb[0] / 255.0F};
  }
  cv::cvtColor(lab, lab, cv::COLOR_BGR2Lab);
  for (int a = 0; a < 12; ++a) {
    for (int b = a + 1; b < 12; ++b) {
      const double distance = cv::norm(lab.at<cv::Vec3f>(0, a) - lab.at<cv::Vec3f>(0, b));
      EXPECT_GT(distance, b == a + 1 ? 50 : 25) << a << " and " << b;
    }
  }
  EXPECT_EQ(std::count_if(palette.begin(), palette.end(),
                          [](const auto& rgb) {
                            const double hue = hue_of(rgb);
                            return hue > 75 && hue < 165;
                          }),
            1)
      << "greens";
}

TEST(Pictures, ColoursClasses) {
  const cv::Mat map = colour_map(picture_labels(), kTwo);
  EXPECT_EQ(map.at<cv::Vec3b>(0, 0), cv::Vec3b(0, 0, 255));  // BGR
  EXPECT_EQ(map.at<cv::Vec3b>(0, 1), cv::Vec3b(255, 0, 0));
  EXPECT_EQ(map.at<cv::Vec3b>(1, 0), cv::Vec3b(0, 0, 0));
}

TEST(Pictures, OverlayMixesByOpacityAndLeavesUnknownPixels) {
  const cv::Mat image(2, 2, CV_8UC3, cv::Scalar(100, 100, 100));
  const cv::Mat half = overlay(image, picture_labels(), kTwo, 0.5);
  EXPECT_EQ(half.at<cv::Vec3b>(0, 0), cv::Vec3b(50, 50, 178));
  EXPECT_EQ(half.at<cv::Vec3b>(1, 0), cv::Vec3b(100, 100, 100));
  EXPECT_EQ(overlay(image, picture_labels(), kTwo, 0).at<cv::Vec3b>(0, 0),
            cv::Vec3b(100, 100, 100));
  // Class ids of another size are brought to the image's.
  const cv::Mat large(4, 4, CV_8UC3, cv::Scalar(0, 0, 0));
  EXPECT_EQ(overlay(large, picture_labels(), kTwo, 1).at<cv::Vec3b>(1, 3), cv::Vec3b(255, 0, 0));
}

TEST(Pictures, SideBySideHasThinLinesBetween) {
  const cv::Mat black(3, 5, CV_8UC3, cv::Scalar::all(0));
  const cv::Mat tall(6, 4, CV_8UC3, cv::Scalar::all(7));
  const cv::Mat row = side_by_side({black, tall});
  EXPECT_EQ(row.rows, 3);
  EXPECT_EQ(row.cols, 5 + 4 + 2);
  EXPECT_EQ(row.at<cv::Vec3b>(1, 5), cv::Vec3b(255, 255, 255));
  EXPECT_EQ(row.at<cv::Vec3b>(1, 9), cv::Vec3b(7, 7, 7));
}

TEST(Pictures, ShowImagesOfAnyKind) {
  const cv::Mat grey(2, 2, CV_8UC1, cv::Scalar(9));
  EXPECT_EQ(displayable(grey).at<cv::Vec3b>(0, 0), cv::Vec3b(9, 9, 9));
  cv::Mat wide(1, 2, CV_16UC(5), cv::Scalar::all(0));
  wide.ptr<uint16_t>(0)[5] = 4000;  // the first band of the second pixel
  const cv::Mat shown = displayable(wide);
  EXPECT_EQ(shown.type(), CV_8UC3);
  EXPECT_EQ(shown.at<cv::Vec3b>(0, 1), cv::Vec3b(255, 0, 0));
  const at::Tensor chw = torch::zeros({3, 2, 4}, at::kByte);
  chw[1].fill_(5);
  EXPECT_EQ(displayable(chw).at<cv::Vec3b>(1, 3), cv::Vec3b(0, 5, 0));
  EXPECT_EQ(displayable(torch::ones({2, 2, 4})).size(), cv::Size(4, 2));
}

TEST(Pictures, ClassIdsHaveAPaletteAndStayIds) {
  const test::TempDir folder;
  const at::Tensor ids = torch::tensor({0, 1, 1, 0}, at::kLong).reshape({2, 2});
  write_class_ids(folder / "a.png", ids, /*one_up=*/false, kTwo);
  EXPECT_EQ(read_labels(folder / "a.png").at<uint8_t>(0, 1), 1);
  EXPECT_EQ(read_image(folder / "a.png").at<cv::Vec3b>(0, 1), cv::Vec3b(255, 0, 0)) << "BGR";
  EXPECT_EQ(folder.read("a.png")[25], 3) << "the colour type of palettes";
  // 0 means "no class" in such data sets: black, and the colours move with the classes.
  write_class_ids(folder / "b.png", ids, /*one_up=*/true, kTwo);
  EXPECT_EQ(read_labels(folder / "b.png").at<uint8_t>(0, 1), 2);
  EXPECT_EQ(read_image(folder / "b.png").at<cv::Vec3b>(0, 1), cv::Vec3b(255, 0, 0));
}

TEST(Pictures, ClassIdsBeyondBytesAreWrittenInSixteenBits) {
  const test::TempDir folder;
  const at::Tensor ids = torch::tensor({0, 300}, at::kLong).reshape({1, 2});
  write_class_ids(folder / "a.png", ids, /*one_up=*/false, default_palette(301));
  const cv::Mat read = read_labels(folder / "a.png");
  EXPECT_EQ(read.type(), CV_32S);
  EXPECT_EQ(read.at<int>(0, 1), 300);
}

}  // namespace
}  // namespace seg
