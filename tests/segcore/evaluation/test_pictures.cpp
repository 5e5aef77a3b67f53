#include <gtest/gtest.h>

#include <opencv2/core.hpp>
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
  EXPECT_EQ(palette[0], (std::array<int, 3>{128, 0, 0}));
  EXPECT_EQ(palette[1], (std::array<int, 3>{0, 128, 0}));
  EXPECT_EQ(palette[7], (std::array<int, 3>{64, 0, 0}));
  EXPECT_EQ(std::set(palette.begin(), palette.end()).size(), 255u);
  EXPECT_EQ(palette_or_default(kTwo, 2), kTwo);
  EXPECT_EQ(palette_or_default(kTwo, 3).size(), 3u);
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

TEST(Pictures, ClassIdsBeyondBytesAreWrittenInSixteenBits) {
  test::TempDir folder;
  write_class_ids(folder / "a.png", torch::tensor({0, 300}, at::kLong).reshape({1, 2}), false);
  const cv::Mat ids = read_labels(folder / "a.png");
  EXPECT_EQ(ids.type(), CV_32S);
  EXPECT_EQ(ids.at<int>(0, 1), 300);
}

}  // namespace
}  // namespace seg
