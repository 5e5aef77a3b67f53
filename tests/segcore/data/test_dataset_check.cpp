#include "segcore/data/dataset_check.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "segcore/image/image_io.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_images.hpp"

namespace seg {
namespace {

using test::TempDir;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string tiny_dataset(const TempDir& dir, const std::string& more = "") {
  return "{type: BaseSegDataset, data_root: " + dir.path().string() +
         ", data_prefix: {img_path: img, seg_map_path: ann}, img_suffix: .png, metainfo: {classes: "
         "[ground, water, wood]}, pipeline: [{type: LoadImageFromFile}, {type: LoadAnnotations}, "
         "{type: PackSegInputs}]" +
         more + "}";
}

std::string check_of(const std::string& yaml, const DatasetCheckParams& params = {}) {
  return check_dataset(*Spec<Dataset>::of(yaml).build(), "train", params);
}

std::string check_error(const std::string& yaml, const DatasetCheckParams& params = {}) {
  try {
    check_of(yaml, params);
  } catch (const DataError& e) {
    return e.what();
  }
  return "no error";
}

TEST(DatasetCheck, TableOfLabels) {
  const TempDir dir;
  test::write_tiny_dataset(dir, 2);
  cv::Mat labels(10, 12, CV_8UC1, cv::Scalar(0));
  labels.rowRange(0, 5).setTo(255);
  write_png(dir / "ann/00.png", labels);
  write_png(dir / "ann/01.png", labels);
  EXPECT_EQ(check_of(tiny_dataset(dir)),
            "train: 2 samples, files of 2 looked for and found\n"
            "labels of 2 annotations:\n"
            "     raw  class                      share of pixels\n"
            "       0  0 ground                         50.000 %\n"
            "     255  ignored                          50.000 %\n"
            "2 classes are in none of these annotations: water, wood");
}

TEST(DatasetCheck, MissingPartnersAreNamedThreeFromEachSide) {
  const TempDir dir;
  test::write_tiny_dataset(dir, 6);
  for (const char* gone : {"ann/00.png", "ann/02.png", "ann/03.png", "ann/04.png", "img/05.png"}) {
    std::filesystem::remove(dir / gone);
  }
  EXPECT_EQ(check_error(tiny_dataset(dir)),
            "train: 4 of 5 annotations are missing: " + (dir / "ann/00.png") + ", " +
                (dir / "ann/02.png") + ", " + (dir / "ann/03.png") +
                " and 1 more; 1 annotation has "
                "no image: " +
                (dir / "ann/05.png"));
  dir.write("list.txt", "00\n01\n05\n");
  EXPECT_EQ(check_error(tiny_dataset(dir, ", ann_file: list.txt")),
            "train: 1 of 3 images is missing: " + (dir / "img/05.png") +
                "; 1 of 3 annotations is missing: " + (dir / "ann/00.png"));
  EXPECT_THAT(check_error(tiny_dataset(dir, ", skip_corrupt: true")), "no error");
  EXPECT_THAT(check_of(tiny_dataset(dir, ", skip_corrupt: true")),
              HasSubstr("; skipped: 4 of 5 annotations are missing: "));
}

TEST(DatasetCheck, LabelsThatNoClassHas) {
  const TempDir dir;
  test::write_tiny_dataset(dir, 3);
  cv::Mat labels = test::tiny_labels(10, 12, 3);
  labels.at<uint8_t>(4, 7) = 9;
  write_png(dir / "ann/01.png", labels);
  EXPECT_EQ(check_error(tiny_dataset(dir)),
            (dir / "ann/01.png") +
                ": the label 9 at row 4, column 7 is none of the 3 classes (0 to "
                "2) and not ignored (ignore_index: 255)");
  EXPECT_EQ(check_error(tiny_dataset(dir, ", ignore_index: 9")), "no error");
  EXPECT_EQ(check_error(tiny_dataset(dir), {.also_ignored = {9}}), "no error");
  labels.at<uint8_t>(4, 7) = 3;
  write_png(dir / "ann/01.png", labels);
  EXPECT_THAT(check_error(tiny_dataset(dir, ", skip_corrupt: true")),
              HasSubstr(". If labels begin at 1, set reduce_zero_label: true"));
  EXPECT_EQ(check_error(tiny_dataset(dir, ", reduce_zero_label: true")), "no error");
}

TEST(DatasetCheck, SizesAndDamagedAnnotations) {
  const TempDir dir;
  test::write_tiny_dataset(dir, 2);
  write_png(dir / "ann/01.png", test::tiny_labels(5, 6, 3));
  EXPECT_EQ(check_error(tiny_dataset(dir)),
            (dir / "ann/01.png") +
                ": the labels are 6 x 5 pixels (width x height), but the image " +
                (dir / "img/01.png") + " is 12 x 10");
  dir.write("ann/01.png", "damaged");
  EXPECT_THAT(check_error(tiny_dataset(dir)), HasSubstr(dir / "ann/01.png"));
  EXPECT_THAT(
      check_of(tiny_dataset(dir, ", skip_corrupt: true")),
      AllOf(HasSubstr("\nskipped: " + (dir / "ann/01.png")), HasSubstr("labels of 1 annotation:")));
}

TEST(DatasetCheck, NamesAllThatCannotBeUsed) {
  const TempDir dir;
  test::write_tiny_dataset(dir, 3);
  write_png(dir / "ann/00.png", test::tiny_labels(5, 6, 3));
  dir.write("ann/02.png", "damaged");
  EXPECT_THAT(check_error(tiny_dataset(dir)),
              AllOf(StartsWith("2 of the 3 samples looked at cannot be used:\n  " +
                               (dir / "ann/00.png") + ": the labels are 6 x 5 pixels"),
                    HasSubstr("\n  " + (dir / "ann/02.png") + ": ")));
}

TEST(DatasetCheck, SamplesInMemoryAndWithoutAnnotations) {
  const std::string shapes =
      check_of("{type: SyntheticShapesDataset, num_samples: 3}", {.annotations = 2});
  EXPECT_THAT(shapes, HasSubstr("train: 3 samples\nlabels of 2 annotations:"));
  EXPECT_THAT(shapes, HasSubstr("  0 background"));
  const TempDir dir;
  test::write_tiny_dataset(dir, 1);
  EXPECT_EQ(check_of("{type: BaseSegDataset, img_suffix: .png, data_root: " + (dir / "img") +
                     ", data_prefix: {img_path: ''}, pipeline: [{type: LoadImageFromFile}, {type: "
                     "PackSegInputs}]}"),
            "train: 1 sample, files of 1 looked for and found\nno annotations");
}

TEST(DatasetCheck, CamVid) {
  const std::string root = source_path("../shared/data/camvid");
  if (!std::filesystem::exists(root)) GTEST_SKIP() << "there is no " << root;
  const std::string table =
      check_of("{type: CamVidDataset, data_root: " + root +
               ", data_prefix: {img_path: val, seg_map_path: valannot}, pipeline: [{type: "
               "LoadImageFromFile}, {type: LoadAnnotations}, {type: PackSegInputs}]}");
  EXPECT_THAT(table, HasSubstr("train: 101 samples, files of 101 looked for and found"));
  EXPECT_THAT(table, HasSubstr("\n       0  0 sky "));
  EXPECT_THAT(table, HasSubstr("\n      11  ignored "));
}

}  // namespace
}  // namespace seg
