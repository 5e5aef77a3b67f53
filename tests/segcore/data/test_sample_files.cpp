/// Which files a data set finds in folders and lists as people have them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "segcore/data/dataset_check.hpp"
#include "segcore/data/folder_walk.hpp"
#include "segcore/data/text_list.hpp"
#include "segcore/image/image_io.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_images.hpp"

namespace fs = std::filesystem;

namespace seg {
namespace {

using test::TempDir;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

std::unique_ptr<Dataset> found_in(const TempDir& dir, const std::string& more,
                                  const std::string& prefix = "{img_path: img, seg_map_path: ann}",
                                  const std::string& suffixes = "img_suffix: .png") {
  return Spec<Dataset>::of("{type: BaseSegDataset, data_root: " + dir.path().string() +
                           ", data_prefix: " + prefix + ", " + suffixes +
                           ", metainfo: {classes: [ground, water, wood]}, pipeline: [{type: "
                           "LoadImageFromFile}, {type: LoadAnnotations}, {type: PackSegInputs}]" +
                           more + "}")
      .build();
}

std::string found_error(const std::function<void()>& f) {
  try {
    f();
  } catch (const std::exception& e) {
    return e.what();
  }
  return "no error";
}

std::string found_log(const std::function<void()>& f) {
  ::testing::internal::CaptureStderr();
  ::testing::internal::CaptureStdout();
  f();
  return ::testing::internal::GetCapturedStdout() + ::testing::internal::GetCapturedStderr();
}

TEST(SampleFiles, HiddenFilesAndFoldersHoldNoSamples) {
  const TempDir dir;
  test::write_tiny_dataset(dir, 2);
  for (const char* name : {"img/.ipynb_checkpoints/00-checkpoint.png", "img/._00.png",
                           "ann/.ipynb_checkpoints/00.png", "img/.DS_Store", "img/Thumbs.db"}) {
    dir.write(name, "no picture");
  }
  const auto data = found_in(dir, "");
  EXPECT_EQ(data->size(), 2u);
  EXPECT_THAT(data->annotations_without_image(), ElementsAre());
}

TEST(SampleFiles, LinksAreFollowedAndCirclesFound) {
  const TempDir dir;
  test::write_tiny_dataset(dir, 2);
  fs::create_directories(dir / "set");
  fs::create_directory_symlink(dir / "img", dir / "set/day1");
  fs::copy_file(dir / "img/00.png", dir / "set/alone.png");
  EXPECT_THAT(walk_folder(dir / "set"), ElementsAre("alone.png", "day1/00.png", "day1/01.png"));
  fs::create_directory_symlink(dir / "img", dir / "img/again");
  fs::create_symlink(dir / "nowhere.png", dir / "img/lost.png");
  std::vector<std::string> names;
  EXPECT_THAT(
      found_log([&] { names = walk_folder(dir / "set"); }),
      HasSubstr((dir / "set") + ": 1 link leads back to a folder above it and is not followed: " +
                (dir / "set/day1/again")));
  // What a link without a file stands for is missed, not lost.
  EXPECT_THAT(names, ElementsAre("alone.png", "day1/00.png", "day1/01.png", "day1/lost.png"));
  const auto data = found_in(dir, "");
  EXPECT_THAT(found_error([&] { check_dataset(*data, "train"); }),
              HasSubstr("train: 1 of 3 images is missing: " + (dir / "img/lost.png")));
}

TEST(SampleFiles, SuffixesInTwoCases) {
  const TempDir dir;
  test::write_tiny_dataset(dir, 4);
  fs::rename(dir / "img/02.png", dir / "img/02.PNG");
  fs::rename(dir / "img/03.png", dir / "img/03.PNG");
  EXPECT_THAT(
      found_log([&] { EXPECT_EQ(found_in(dir, "")->size(), 2u); }),
      HasSubstr((dir / "img") + ": 2 pictures that end in '.PNG' left out, since img_suffix is "
                                "'.png'; img_suffix: [.png, .PNG] takes them, too"));
  const std::string both = "img_suffix: [.png, .PNG]";
  EXPECT_EQ(found_log([&] {
              const auto data = found_in(dir, "", "{img_path: img, seg_map_path: ann}", both);
              EXPECT_EQ(data->size(), 4u);
              EXPECT_EQ(data->paths(3).second, dir / "ann/03.png");
            }),
            "");
  dir.write("list.txt", "00\n03\n");
  EXPECT_THAT(found_error([&] { check_dataset(*found_in(dir, ", ann_file: list.txt"), "train"); }),
              HasSubstr("03.PNG is there: capitals count, and img_suffix takes a list of endings"));
  const auto listed =
      found_in(dir, ", ann_file: list.txt", "{img_path: img, seg_map_path: ann}", both);
  EXPECT_EQ(listed->paths(1).first, dir / "img/03.PNG");
  fs::rename(dir / "ann/01.png", dir / "ann/01.bmp");
  const auto masks = found_in(dir, "", "{img_path: img, seg_map_path: ann}",
                              both + ", seg_map_suffix: [.png, .bmp]");
  EXPECT_EQ(masks->paths(1).second, dir / "ann/01.bmp");
  EXPECT_EQ(masks->paths(0).second, dir / "ann/00.png");
}

TEST(TextList, MarksAndEndsOfLines) {
  const TempDir dir;
  const auto lines_of = [&](const std::string& bytes) {
    std::vector<std::string> out;
    for (const auto& line : read_text_list(dir.write("list.txt", bytes))) {
      out.push_back(std::to_string(line.number) + line.text);
    }
    return out;
  };
  EXPECT_THAT(lines_of("\xEF\xBB\xBF"
                       "00\r\n\r\n 01 \r\n02"),
              ElementsAre("100", "301", "402"));
  EXPECT_THAT(lines_of("a\rb\n"), ElementsAre("1a", "2b"));
  EXPECT_THAT(lines_of("stra\xC3\x9F"
                       "e\n"),
              ElementsAre("1stra\xC3\x9F"
                          "e"));
  EXPECT_EQ(found_error([&] {
              lines_of(
                  "good\nstra\xDF"
                  "e\n");
            }),
            (dir / "list.txt") +
                ": line 2 is not UTF-8: the byte 0xDF at offset 9 begins no character. Save the "
                "file as UTF-8");
  EXPECT_EQ(found_error([&] {
              lines_of(
                  std::string("\xFF\xFE"
                              "0\0",
                              4));
            }),
            (dir / "list.txt") + ": is text in UTF-16; save it as UTF-8");
}

class SampleLists : public ::testing::Test {
 protected:
  SampleLists() {
    test::write_tiny_dataset(dir_, 2);
    fs::copy_file(dir_ / "img/00.png", dir_ / "img/weed (0).png");
    fs::copy_file(dir_ / "ann/00.png", dir_ / "ann/weed (0).png");
  }
  std::pair<std::string, std::string> first(const std::string& list, const std::string& more = "") {
    dir_.write("list.txt", list);
    return found_in(dir_, ", ann_file: list.txt" + more)->paths(0);
  }
  TempDir dir_;
};

TEST_F(SampleLists, AreReadWhereTheyMeanOneThing) {
  const std::pair<std::string, std::string> plain(dir_ / "img/00.png", dir_ / "ann/00.png");
  const std::pair<std::string, std::string> blanks(dir_ / "img/weed (0).png",
                                                   dir_ / "ann/weed (0).png");
  EXPECT_EQ(first("img/00.png ann/00.png\r\n"), plain);
  EXPECT_EQ(first("img/weed (0).png ann/weed (0).png\n"), blanks);
  EXPECT_EQ(first("img/weed (0).png\tann/weed (0).png\n"), blanks);
  EXPECT_EQ(first("img/weed (0).png, ann/weed (0).png\n"), blanks);
  EXPECT_EQ(first("\"img/weed (0).png\";\"ann/weed (0).png\"\n"), blanks);
  EXPECT_EQ(first("weed (0)\n"), blanks);
  EXPECT_EQ(first("weed (0).png\n"), blanks);
  EXPECT_EQ(first("img\\00.png ann\\00.png\r\n"), plain);
  EXPECT_EQ(first("/img/00.png /ann/00.png\n"), plain);
  EXPECT_EQ(first("img/00.png,ann/00.png\n"), plain);
  EXPECT_EQ(first("00.png 00.png\n"), plain);  // from the folders of data_prefix
  EXPECT_EQ(first(plain.first + " " + plain.second), plain);
}

TEST_F(SampleLists, ElseTheTroubleIsNamed) {
  const std::string at = (dir_ / "list.txt") + ":2: ";
  EXPECT_EQ(found_error([&] { first("00\nimg\\07.png ann\\07.png\n"); }),
            at + "there is no image '" + (dir_ / "img\\07.png") +
                "'. The line holds a backslash; folders are separated by '/'");
  EXPECT_EQ(found_error([&] { first("00\nimg/00.png,ann/00.tif\n"); }),
            at + "there is no image '" + (dir_ / "img/img/00.png,ann/00.tif.png") +
                "'. The line holds a comma and is taken for one name; two are an image that ends "
                "in '.png' (img_suffix) and an annotation that ends in '.png' (seg_map_suffix), "
                "with a blank, a tab or a comma between them");
  EXPECT_THAT(found_error([&] { first("00\n/img/07.png /ann/07.png\n"); }),
              HasSubstr("'. The line begins with a slash, which makes it a path from the root of "
                        "the disk"));
  EXPECT_EQ(found_error([&] { first("00\na.png b.png c.png\n"); }),
            at + "'a.png b.png c.png' can be divided into image and annotation in several ways: "
                 "put a tab between the two");
  EXPECT_EQ(found_error([&] { first("00\nno such\n", ", skip_corrupt: true"); }), "no error");
}

TEST(SampleFiles, OutputsKeepSubfolders) {
  const TempDir dir;
  for (const char* name : {"img/a/00.png", "img/b/00.png", "img/b/00.jpg"}) {
    write_image(dir / name, test::tiny_image(4, 4, 1));
  }
  const auto data = found_in(dir, "", "{img_path: img}", "img_suffix: [.png, .jpg]");
  std::vector<std::string> names;
  for (size_t i = 0; i < data->size(); ++i) names.push_back(data->output_name(i));
  EXPECT_THAT(names, ElementsAre("a/00", "b/00.jpg", "b/00.png"));
  const std::string part =
      "{type: BaseSegDataset, img_suffix: .png, pipeline: [], data_prefix: "
      "{img_path: " +
      (dir / "img/");
  const auto both =
      Spec<Dataset>::of("{type: ConcatDataset, datasets: [" + part + "a}}, " + part + "b}}]}")
          .build();
  EXPECT_EQ(both->output_name(0), "0/00");
  EXPECT_EQ(both->output_name(1), "1/00");
}

TEST(SampleFiles, LabelMapAndNoData) {
  const TempDir dir;
  test::write_tiny_dataset(dir, 1);
  cv::Mat mask(10, 12, CV_8UC1, cv::Scalar(0));
  mask.colRange(0, 6).setTo(255);
  mask.row(9).setTo(77);
  write_png(dir / "ann/00.png", mask);
  const auto labels_of = [&](const std::string& more, const std::string& load) {
    return Spec<Dataset>::of("{type: BaseSegDataset, data_root: " + dir.path().string() +
                             ", data_prefix: {img_path: img, seg_map_path: ann}, img_suffix: .png, "
                             "metainfo: {classes: [ground, water]}, pipeline: [{type: "
                             "LoadImageFromFile}, {type: LoadAnnotations" +
                             load + "}, {type: PackSegInputs}]" + more + "}")
        .build();
  };
  const auto data = labels_of(", label_map: {255: 1}", ", nodata: 77");
  const cv::Mat labels = data->with_labels(0).labels;
  EXPECT_EQ(labels.at<uint8_t>(0, 0), 1);
  EXPECT_EQ(labels.at<uint8_t>(0, 11), 0);
  EXPECT_EQ(labels.at<uint8_t>(9, 0), 255);
  EXPECT_THAT(check_dataset(*data, "train"), HasSubstr("\n  nodata  ignored "));
  EXPECT_THAT(found_error([&] { labels_of(", label_map: {255: 1}, reduce_zero_label: true", ""); }),
              HasSubstr("reduce_zero_label maps labels, too; give one of the two"));
  EXPECT_THAT(found_error([&] { labels_of(", label_map: {white: 1}", ""); }),
              HasSubstr("'white' is no label; labels are whole numbers"));
}

TEST(DatasetCheckOfInputs, MasksOfZeroAnd255) {
  const TempDir dir;
  test::write_tiny_dataset(dir, 1);
  cv::Mat mask(10, 12, CV_8UC1, cv::Scalar(0));
  mask.colRange(0, 6).setTo(255);
  write_png(dir / "ann/00.png", mask);
  EXPECT_THAT(found_log([&] { check_dataset(*found_in(dir, ""), "train"); }),
              HasSubstr("train: the annotations hold 0 and 255 alone, and 255 is ignored, so that "
                        "no pixel is 'water'. If 255 means that class, give the data set this "
                        "line: label_map: {255: 1}"));
  EXPECT_THAT(found_log([&] { check_dataset(*found_in(dir, ", label_map: {255: 1}"), "train"); }),
              Not(HasSubstr("255 is ignored")));
}

TEST(DatasetCheckOfInputs, MasksSavedAsJpeg) {
  const TempDir dir;
  test::write_tiny_dataset(dir, 1);
  cv::Mat mask(32, 32, CV_8UC1, cv::Scalar(0));
  write_png(dir / "img/00.png", test::tiny_image(32, 32, 1));
  write_jpeg(dir / "ann/00.jpg", mask);
  const auto flat = [&] { return found_in(dir, ", seg_map_suffix: .jpg"); };
  EXPECT_THAT(found_log([&] { check_dataset(*flat(), "train"); }),
              HasSubstr("train: 1 of 1 annotations looked at is saved with loss (JPEG), which "
                        "changes labels where classes meet: save them as PNG. The first: " +
                        (dir / "ann/00.jpg")));
  mask.colRange(3, 20).setTo(40);
  write_jpeg(dir / "ann/00.jpg", mask);
  EXPECT_THAT(
      found_error([&] { check_dataset(*flat(), "train"); }),
      HasSubstr(". The file is JPEG, which changes values when it is saved: save labels as PNG"));
}

TEST(DatasetCheckOfInputs, AllAnnotationsAndImagesAreReadWhereAsked) {
  const TempDir dir;
  test::write_tiny_dataset(dir, 40);
  write_png(dir / "ann/07.png", cv::Mat(10, 12, CV_8UC1, cv::Scalar(9)));
  const auto data = found_in(dir, "");
  EXPECT_EQ(found_error([&] { check_dataset(*data, "train", {.annotations = 4}); }), "no error");
  EXPECT_THAT(found_error([&] {
                check_dataset(*data, "train", {.annotations = DatasetCheckParams::kAll});
              }),
              HasSubstr((dir / "ann/07.png") + ": the label 9 at row 0, column 0"));
  write_png(dir / "ann/07.png", test::tiny_labels(10, 12, 3));
  std::string bytes = dir.read("img/11.png");
  dir.write("img/11.png", bytes.substr(0, bytes.size() - 30));
  EXPECT_THAT(found_error([&] {
                check_dataset(*data, "train", {.annotations = DatasetCheckParams::kAll});
              }),
              HasSubstr((dir / "img/11.png") + ": damaged PNG file"));
}

}  // namespace
}  // namespace seg
