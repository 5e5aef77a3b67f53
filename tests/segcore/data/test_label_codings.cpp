// Annotations that are no pictures of class ids: colours, LabelMe's shapes, COCO's objects.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "segcore/data/dataset.hpp"
#include "segcore/data/dataset_check.hpp"
#include "segcore/data/regions.hpp"
#include "segcore/image/image_io.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_images.hpp"

namespace seg::label_coding_test {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string coded(const test::TempDir& dir, const std::string& more,
                  const std::string& metainfo =
                      "{classes: [background, cat, dog], palette: [[0, "
                      "0, 0], [255, 0, 0], [0, 128, 255]]}") {
  return "{type: BaseSegDataset, data_root: " + dir.path().string() +
         ", data_prefix: {img_path: img, seg_map_path: ann}, img_suffix: .png, metainfo: " +
         metainfo +
         ", pipeline: [{type: LoadImageFromFile}, {type: LoadAnnotations}, {type: "
         "PackSegInputs}]" +
         more + "}";
}

std::unique_ptr<Dataset> coded_dataset(const std::string& yaml) {
  return Spec<Dataset>::of(yaml).build();
}

std::vector<int64_t> labels_of(const Dataset& data, size_t index) {
  const auto labels = data.get(index, 0, 0).at(0).labels.to(torch::kLong).contiguous();
  return {labels.data_ptr<int64_t>(), labels.data_ptr<int64_t>() + labels.numel()};
}

std::string logged_by(const std::function<void()>& run) {
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  run();
  return ::testing::internal::GetCapturedStdout() + ::testing::internal::GetCapturedStderr();
}

/// The run lengths of a mask, column by column, beginning outside.
std::vector<int64_t> runs_of(const cv::Mat& mask) {
  std::vector<int64_t> out{0};
  bool inside = false;
  for (int x = 0; x < mask.cols; ++x) {
    for (int y = 0; y < mask.rows; ++y) {
      if ((mask.at<uint8_t>(y, x) != 0) != inside) {
        inside = !inside;
        out.push_back(0);
      }
      ++out.back();
    }
  }
  return out;
}

// --- Colours ------------------------------------------------------------------------------------

cv::Mat colored(const std::vector<cv::Vec3b>& rgb) {
  cv::Mat out(1, static_cast<int>(rgb.size()), CV_8UC3);
  for (int x = 0; x < out.cols; ++x) {
    const auto& c = rgb[static_cast<size_t>(x)];
    out.at<cv::Vec3b>(0, x) = {c[2], c[1], c[0]};
  }
  return out;
}

TEST(LabelColors, AreReadByThePalette) {
  const test::TempDir dir;
  write_png(dir / "img/a.png", test::tiny_image(1, 4, 0));
  write_png(dir / "ann/a.png", colored({{0, 128, 255}, {0, 0, 0}, {255, 0, 0}, {0, 128, 255}}));
  const auto data = coded_dataset(coded(dir, ", label_colors: palette"));
  EXPECT_THAT(labels_of(*data, 0), ElementsAre(2, 0, 1, 2));
}

TEST(LabelColors, OthersAreIgnoredAndReportedWithTheirFile) {
  const test::TempDir dir;
  write_png(dir / "img/a.png", test::tiny_image(1, 4, 0));
  write_png(dir / "ann/a.png", colored({{1, 2, 3}, {255, 0, 0}, {1, 2, 3}, {9, 9, 9}}));
  const auto data = coded_dataset(coded(dir, ", label_colors: palette"));
  std::vector<int64_t> labels;
  const auto log = logged_by([&] {
    labels = labels_of(*data, 0);
    labels_of(*data, 0);
  });
  EXPECT_THAT(labels, ElementsAre(255, 1, 255, 255));
  const std::string said = dir / "ann/a.png" +
                           ": 3 pixels have 2 colours that are not in the palette, and are "
                           "ignored: (1, 2, 3) at 2 of them";
  EXPECT_THAT(log, HasSubstr(said));
  EXPECT_EQ(log.find(said), log.rfind(said)) << "once for each file";
}

TEST(LabelColors, OfAKnownDataSetAreThoseOfAllItsClasses) {
  const test::TempDir dir;
  // CamVid: sky is (128, 128, 128), road (128, 64, 128).
  write_png(dir / "img/a.png", test::tiny_image(1, 3, 0));
  write_png(dir / "ann/a.png", colored({{128, 64, 128}, {128, 128, 128}, {64, 0, 128}}));
  auto yaml = coded(dir, ", label_colors: palette, seg_map_suffix: .png", "{classes: [road, sky]}");
  yaml.replace(yaml.find("BaseSegDataset"), 14, "CamVidDataset");
  EXPECT_THAT(labels_of(*coded_dataset(yaml), 0), ElementsAre(0, 1, 255));
}

TEST(LabelColors, CannotBeReducedOrShared) {
  const test::TempDir dir;
  test::write_tiny_dataset(dir, 1);
  const auto error = [&](const std::string& more, const std::string& metainfo) {
    return test::config_error([&] { coded_dataset(coded(dir, more, metainfo)); });
  };
  EXPECT_THAT(error(", label_colors: palette, reduce_zero_label: true",
                    "{classes: [a, b], palette: [[0, 0, 0], [1, 1, 1]]}"),
              HasSubstr("reduce_zero_label: is for pictures of class ids"));
  EXPECT_THAT(
      error(", label_colors: palette", "{classes: [a, b], palette: [[1, 1, 1], [1, 1, 1]]}"),
      HasSubstr("label_colors: classes 0 and 1 have one colour, (1, 1, 1)"));
  EXPECT_THAT(error(", label_colors: pallete", "{classes: [a, b]}"),
              HasSubstr("label_colors: unknown value 'pallete'. Did you mean 'palette'?"));
}

// --- LabelMe ------------------------------------------------------------------------------------

std::string labelme(const std::string& shapes) {
  return R"({"version": "5.4.1", "flags": {}, "imagePath": "a.png", "imageHeight": 4, "imageWidth": 6,
            "shapes": [)" +
         shapes + "]}";
}

TEST(LabelMe, ShapesAreClasses) {
  const test::TempDir dir;
  write_png(dir / "img/a.png", test::tiny_image(4, 6, 0));
  dir.write("ann/a.json", labelme(R"(
      {"label": "cat", "shape_type": "rectangle", "points": [[0, 0], [2, 1]]},
      {"label": "dog", "shape_type": "polygon", "points": [[2, 1], [4, 1], [4, 3], [2, 3]]},
      {"label": "__ignore__", "shape_type": "circle", "points": [[5, 0], [5.2, 0]]})"));
  const auto data = coded_dataset(coded(dir, ", seg_map_suffix: .json"));
  EXPECT_THAT(labels_of(*data, 0), ElementsAre(1, 1, 1, 0, 0, 255,  //
                                               1, 1, 2, 2, 2, 0,    //
                                               0, 0, 2, 2, 2, 0,    //
                                               0, 0, 2, 2, 2, 0));
  // Without a class for it the rest is ignored.
  const auto two = coded_dataset(coded(dir, ", seg_map_suffix: .json", "{classes: [dog, cat]}"));
  EXPECT_EQ(labels_of(*two, 0)[3], 255);
  EXPECT_EQ(labels_of(*two, 0)[0], 1);
  EXPECT_THAT(check_dataset(*data, "train"), HasSubstr("labels of 1 annotation"));
}

TEST(LabelMe, MistakesAreNamedWithTheirFile) {
  const test::TempDir dir;
  write_png(dir / "img/a.png", test::tiny_image(4, 6, 0));
  const auto error = [&](const std::string& json) -> std::string {
    dir.write("ann/a.json", json);
    try {
      labels_of(*coded_dataset(coded(dir, ", seg_map_suffix: .json")), 0);
    } catch (const DataError& e) {
      return e.what();
    }
    return "no error";
  };
  const std::string file = dir / "ann/a.json";
  EXPECT_THAT(error(labelme(R"({"label": "kat", "points": [[0, 0], [1, 0], [1, 1]]})")),
              HasSubstr(file + ": the label 'kat' is no class. Did you mean 'cat'? Classes: "
                               "background, cat, dog"));
  EXPECT_THAT(
      error(labelme(R"({"label": "cat", "shape_type": "line", "points": [[0, 0], [1, 0]]})")),
      HasSubstr(file + ": a shape is a line, which covers no area"));
  EXPECT_THAT(error(labelme(R"({"label": "cat", "points": [[0, 0]]})")),
              HasSubstr(file + ": a polygon needs at least three points"));
  EXPECT_THAT(error(R"({"shapes": )"), HasSubstr(file + ": the JSON in it is cut short"));
  EXPECT_THAT(error(R"({"shapes": []})"), HasSubstr(file + ": is no file of LabelMe: "));
}

// --- COCO ---------------------------------------------------------------------------------------

TEST(CocoRegions, PolygonsHaveThePixelsOfPycocotools) {
  // pycocotools 2.0.11: decode(frPyObjects([polygon], height, width)).
  const auto runs = [](int height, int width, const Polygon& polygon) {
    cv::Mat mask(height, width, CV_8U, cv::Scalar(0));
    fill_coco_polygon(mask, polygon);
    return runs_of(mask);
  };
  EXPECT_THAT(runs(7, 9, {{1.2, 1.5}, {7.9, 0.7}, {6.1, 6.4}}),
              ElementsAre(15, 2, 5, 3, 4, 4, 3, 5, 2, 4, 3, 1, 12));
  EXPECT_THAT(runs(10, 8, {{-2, 3}, {4.5, -1}, {9.3, 4.4}, {5, 12}, {1, 8.2}}),
              ElementsAre(2, 5, 4, 8, 1, 40, 1, 8, 3, 6, 2));
  EXPECT_THAT(runs(6, 6, {{1, 1}, {4, 1}, {4, 4}, {1, 4}}), ElementsAre(7, 3, 3, 3, 3, 3, 14));
  EXPECT_THAT(runs(5, 5, {{0, 0}, {5, 5}, {5, 0}}), ElementsAre(5, 1, 4, 2, 3, 3, 2, 4, 1));
}

TEST(CocoRegions, TextsAreRunLengths) {
  EXPECT_THAT(runs_of_text("?251O1O1OO1M9"), ElementsAre(15, 2, 5, 3, 4, 4, 3, 5, 2, 4, 3, 1, 12));
  EXPECT_THAT(runs_of_text("2543MP10PO2NO"), ElementsAre(2, 5, 4, 8, 1, 40, 1, 8, 3, 6, 2));
  EXPECT_TRUE(runs_of_text("2 5").empty());
  EXPECT_TRUE(runs_of_text("P").empty()) << "a number that does not end";
}

const std::string kCoco = R"({
  "images": [{"id": 7, "file_name": "sub/b.png", "height": 6, "width": 6},
             {"id": 9, "file_name": "a.png", "height": 2, "width": 3}],
  "categories": [{"id": 18, "name": "dog"}, {"id": 17, "name": "cat"}, {"id": 1, "name": "person"}],
  "annotations": [
    {"id": 1, "image_id": 7, "category_id": 17, "segmentation": [[1, 1, 4, 1, 4, 4, 1, 4]]},
    {"id": 2, "image_id": 9, "category_id": 18, "segmentation": {"size": [2, 3], "counts": [1, 2, 3]}},
    {"id": 3, "image_id": 9, "category_id": 17, "segmentation": {"size": [2, 3], "counts": "51"}},
    {"id": 4, "image_id": 9, "category_id": 1, "segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]]}]})";

TEST(Coco, ObjectsAreClasses) {
  const test::TempDir dir;
  write_png(dir / "img/sub/b.png", test::tiny_image(6, 6, 0));
  write_png(dir / "img/a.png", test::tiny_image(2, 3, 0));
  dir.write("objects.json", kCoco);
  std::unique_ptr<Dataset> data;
  const auto log = logged_by([&] { data = coded_dataset(coded(dir, ", ann_file: objects.json")); });
  EXPECT_THAT(log, HasSubstr("the objects of 1 category that is no class are left out: person"));
  ASSERT_EQ(data->size(), 2u);
  EXPECT_EQ(data->paths(0).first, dir / "img/sub/b.png");
  EXPECT_EQ(data->output_name(0), "sub/b");
  const auto square = labels_of(*data, 0);
  EXPECT_EQ(std::count(square.begin(), square.end(), 1), 9);
  EXPECT_EQ(square[7], 1);
  // Columns: - | D D | ... and then the cat over what its runs cover: the last pixel.
  EXPECT_THAT(labels_of(*data, 1), ElementsAre(0, 2, 0,  //
                                               2, 0, 1));
}

TEST(Coco, MistakesAreNamedWithTheirFile) {
  const test::TempDir dir;
  test::write_tiny_dataset(dir, 1);
  const auto error = [&](const std::string& json) -> std::string {
    dir.write("objects.json", json);
    try {
      coded_dataset(coded(dir, ", ann_file: objects.json"));
    } catch (const std::exception& e) {
      return e.what();
    }
    return "no error";
  };
  const std::string file = dir / "objects.json";
  EXPECT_THAT(error("{}"), HasSubstr(file + ": is no file of COCO: it has no 'images'"));
  EXPECT_THAT(error(R"({"images": [], "categories": [], "annotations": [{"id": 1, "image_id": 2,
                      "category_id": 3}]})"),
              HasSubstr(file + ": annotation 1 is of an image that is not in the file"));
}

}  // namespace seg::label_coding_test
