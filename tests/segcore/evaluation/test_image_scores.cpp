#include "segcore/evaluation/image_scores.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <opencv2/core.hpp>

#include "segcore/evaluation/confusion_matrix.hpp"
#include "segcore/evaluation/prediction_picture.hpp"
#include "segcore/ops/class_histogram/class_histogram.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

using ::testing::HasSubstr;

at::Tensor score_ids(std::vector<int64_t> values) {
  const auto n = static_cast<int64_t>(values.size());
  return torch::tensor(values, at::kLong).reshape({1, n});
}

/// Class 0: 1 of 2 right; class 1: 1 of 3; class 2 nowhere; one pixel ignored.
ImageScore small_score() {
  return image_score(class_histogram(score_ids({0, 1, 1, 1}), score_ids({0, 0, 1, 255}), 3, 255));
}

TEST(ImageScore, IsTheMeanOverTheClassesPresent) {
  const ImageScore score = small_score();
  EXPECT_DOUBLE_EQ(score.iou[0], 0.5);
  EXPECT_DOUBLE_EQ(score.iou[1], 0.5);
  EXPECT_TRUE(std::isnan(score.iou[2]));
  EXPECT_DOUBLE_EQ(score.mean_iou, 0.5);
  EXPECT_DOUBLE_EQ(score.accuracy, 2.0 / 3);
  const ImageScore none = image_score(at::zeros({3, 4}, at::kLong));
  EXPECT_TRUE(std::isnan(none.mean_iou));
  EXPECT_TRUE(std::isnan(none.accuracy));
}

TEST(ImageScore, TableHasARowAnImage) {
  EXPECT_EQ(scores_csv({{0, "a, b.png", small_score()},
                        {1, "c.png", image_score(at::zeros({3, 4}, at::kLong))}},
                       {"road", "sky", "car"}),
            "image,mIoU,aAcc,IoU.road,IoU.sky,IoU.car\n"
            "\"a, b.png\",50.00,66.67,50.00,50.00,\n"
            "c.png,,,,,\n");
}

TEST(ImageScore, PageShowsTheWorstFirstAndEscapesNames) {
  ImageScore good = small_score(), none = image_score(at::zeros({3, 4}, at::kLong));
  good.mean_iou = 0.9;
  const std::string page = scores_page(
      "Worst <first>", {{0, "g.png", good}, {1, "n.png", none}, {2, "a&b #1.png", small_score()}},
      {"g.png", "n.png", "a&b #1.png"}, {"road", "sky", "car"});
  const size_t worst = page.find("a&amp;b #1.png"), best = page.find(">g.png<"),
               last = page.find(">n.png<");
  ASSERT_NE(worst, std::string::npos);
  EXPECT_LT(worst, best);
  EXPECT_LT(best, last) << "without truth: at the end";
  EXPECT_THAT(page, HasSubstr("<title>Worst &lt;first&gt;</title>"));
  EXPECT_THAT(page, HasSubstr("<a href=\"a%26b%20%231.png\"><img loading=\"lazy\" "
                              "src=\"a%26b%20%231.png\" alt=\"a&amp;b #1.png\"></a>"));
  EXPECT_THAT(page, HasSubstr("<b>mIoU 50.0</b>"));
  EXPECT_THAT(page, HasSubstr("66.7 % of the pixels right; lowest: road 50.0, sky 50.0"));
  EXPECT_THAT(page, HasSubstr("<b>no truth</b>"));
  EXPECT_EQ(page.find("http"), std::string::npos) << "nothing from elsewhere";
}

TEST(ConfusionMatrix, CountsPairsOfClasses) {
  ConfusionMatrix matrix(2);
  matrix.add(score_ids({0, 1, 1, 0, 1}), score_ids({0, 0, 1, 255, 7}), 255);
  matrix.add(score_ids({1}), score_ids({0}), 255);
  SingleProcess alone;
  const at::Tensor counts = matrix.gather(alone);
  EXPECT_TRUE(torch::equal(counts, torch::tensor({1, 2, 0, 1}, at::kLong).reshape({2, 2})));
  EXPECT_EQ(confusion_csv(counts, {"a", "b,c"}),
            "truth\\prediction,a,\"b,c\"\na,1,2\n\"b,c\",0,1\n");
}

TEST(ConfusionMatrix, PictureShadesEachRowByItsShares) {
  const at::Tensor counts = torch::tensor({100, 0, 25, 75}, at::kLong).reshape({2, 2});
  const cv::Mat picture = confusion_picture(counts, {"road", "sky"});
  // The cells are the last rows before the margin of 16 pixels; the first cell is dark.
  const int top = picture.rows - 16 - 2 * 56;
  int left = 40;
  while (left < picture.cols && picture.at<cv::Vec3b>(top + 4, left)[2] > 20) ++left;
  ASSERT_LE(left + 2 * 56 + 16, picture.cols);
  const auto corner = [&](int truth, int predicted) {
    return picture.at<cv::Vec3b>(top + truth * 56 + 4, left + predicted * 56 + 4);
  };
  EXPECT_LT(corner(0, 0)[2], 20) << "all of the class";
  EXPECT_EQ(corner(0, 1), cv::Vec3b(255, 255, 255));
  EXPECT_GT(corner(1, 0)[2], corner(1, 1)[2]);
  EXPECT_LT(corner(1, 0)[2], 250);
  for (const int64_t classes : {1, 19, 150}) {
    const std::vector<std::string> names(static_cast<size_t>(classes), "a class");
    EXPECT_GT(confusion_picture(at::eye(classes, at::kLong), names).cols, 0);
  }
}

TEST(PredictionPicture, HasPanelsHeadAndLegend) {
  const cv::Mat image(40, 300, CV_8UC3, cv::Scalar(10, 200, 30));
  at::Tensor truth = torch::zeros({40, 300}, at::kLong), prediction = truth.clone();
  prediction.narrow(1, 150, 150).fill_(1);
  truth.narrow(1, 0, 10).fill_(255);
  const Palette palette{{{255, 0, 0}}, {{0, 0, 255}}};
  const std::vector<std::string> classes{"road", "sky"};
  const cv::Mat picture = prediction_picture({.name = "a.png",
                                              .image = image,
                                              .truth = truth,
                                              .prediction = prediction,
                                              .palette = &palette,
                                              .classes = &classes,
                                              .opacity = 1});
  const cv::Rect panel = image_panel(image.size());
  EXPECT_EQ(panel.size(), image.size());
  EXPECT_EQ(cv::norm(picture(panel), image, cv::NORM_INF), 0);
  const int right = picture.cols - panel.x - panel.width;  // of the second column
  EXPECT_EQ(picture.at<cv::Vec3b>(panel.y + 20, right + 200), cv::Vec3b(0, 0, 255)) << "truth";
  // The second row: prediction, and red where it is wrong.
  int below = panel.y + panel.height + 1;
  while (picture.at<cv::Vec3b>(below, panel.x + 200) != cv::Vec3b(255, 0, 0)) {
    ASSERT_LT(++below, picture.rows - 1);
  }
  const cv::Vec3b wrong = picture.at<cv::Vec3b>(below + 20, right + 200),
                  correct = picture.at<cv::Vec3b>(below + 20, right + 100),
                  ignored = picture.at<cv::Vec3b>(below + 20, right + 5);
  EXPECT_GT(wrong[2], wrong[1] + 100);
  EXPECT_EQ(correct[0], correct[2]) << "grey";
  EXPECT_LT(ignored[0], 60);
  EXPECT_LT(below + panel.height + 30, picture.rows) << "a legend";
}

TEST(PredictionPicture, ShowsWhatThereIs) {
  const Palette palette = default_palette(2);
  const std::vector<std::string> classes{
      "stra\xc3\x9f"
      "e",
      "sky"};
  const cv::Mat small(6, 4, CV_8UC3, cv::Scalar::all(9));
  PredictionPictureParts parts{.name = std::string(300, 'x') + ".png",
                               .image = small,
                               .truth = {},
                               .prediction = torch::zeros({6, 4}, at::kLong),
                               .palette = &palette,
                               .classes = &classes};
  EXPECT_EQ(image_panel(small.size()).size(), small.size() * 60);
  const int alone = prediction_picture(parts).rows;
  parts.truth = torch::ones({3, 2}, at::kLong);  // of a pipeline that resized it
  EXPECT_GT(prediction_picture(parts).rows, alone) << "without errors to count";
  EXPECT_EQ(image_panel({8192, 4096}).size(), cv::Size(2048, 1024));
}

}  // namespace
}  // namespace seg
