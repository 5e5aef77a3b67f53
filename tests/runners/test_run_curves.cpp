/// The curves of runs: what is joined, marked, smoothed and drawn.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <opencv2/core.hpp>

#include "runners/visualization/run_curves.hpp"
#include "segcore/image/image_io.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::SizeIs;

std::string training_row(int step, double loss) {
  return text("{\"loss\": ", loss, ", \"iter\": ", step, ", \"step\": ", step, "}\n");
}
std::string validation_row(int step, double miou) {
  return text("{\"mIoU\": ", miou, ", \"step\": ", step, "}\n");
}

TEST(RunLog, KeepsTheTrainingRowOfTheStepThatAResumedRunOwesAValidation) {
  const test::TempDir dir;
  dir.write("run/20260101_000000/vis_data/scalars.json",
            training_row(10, 3) + training_row(20, 2) + validation_row(20, 50));
  // Saved after step 20 and before its validation, which is done anew.
  dir.write("run/20260102_000000/vis_data/scalars.json",
            validation_row(20, 50) + training_row(30, 1) + validation_row(30, 60));
  const RunLog run = read_run_log(dir / "run");
  EXPECT_THAT(run.find("loss")->points, ElementsAre(Pair(10, 3), Pair(20, 2), Pair(30, 1)));
  EXPECT_THAT(run.find("mIoU")->points, ElementsAre(Pair(20, 50), Pair(30, 60)));
  EXPECT_THAT(run.resumes, ElementsAre(20));
}

TEST(RunLog, KeepsTheLastPointOfAFinishedRun) {
  const test::TempDir dir;
  dir.write("run/20260101_000000/vis_data/scalars.json",
            training_row(10, 3) + training_row(20, 2) + validation_row(20, 50));
  // Resumed after its end: the validation alone, and nothing at all.
  dir.write("run/20260102_000000/vis_data/scalars.json", validation_row(20, 50));
  dir.write("run/20260103_000000/vis_data/scalars.json", "");
  const RunLog run = read_run_log(dir / "run");
  EXPECT_THAT(run.find("loss")->points, ElementsAre(Pair(10, 3), Pair(20, 2)));
  EXPECT_THAT(run.find("mIoU")->points, ElementsAre(Pair(20, 50)));
}

TEST(RunLog, DropsWhatALaunchDidBeyondTheStepThatTheNextContinuedFrom) {
  const test::TempDir dir;
  dir.write("run/20260101_000000/vis_data/scalars.json",
            training_row(10, 3) + training_row(20, 9) + validation_row(25, 9) +
                training_row(30, 9) + validation_row(50, 9));
  dir.write("run/20260102_000000/vis_data/scalars.json",
            training_row(20, 2) + validation_row(25, 50));
  const RunLog run = read_run_log(dir / "run");
  EXPECT_THAT(run.find("loss")->points, ElementsAre(Pair(10, 3), Pair(20, 2)));
  EXPECT_THAT(run.find("mIoU")->points, ElementsAre(Pair(25, 50)));
  EXPECT_THAT(run.resumes, ElementsAre(10));
}

TEST(RunCurves, EpochsStandAtTheirLastStep) {
  const test::TempDir dir;
  const std::string file = dir.write(
      "scalars.json",
      "{\"loss\": 3.0, \"epoch\": 1, \"iter\": 50, \"step\": 50}\n{\"mIoU\": 5.0, \"step\": 1}\n"
      "{\"loss\": 2.0, \"epoch\": 2, \"iter\": 100, \"step\": 100}\n{\"mIoU\": 6.0, \"step\": "
      "2}\n");
  const auto panels = curve_panels({read_run_log(file)}, {"loss", "mIoU"});
  ASSERT_THAT(panels, SizeIs(2));
  EXPECT_EQ(panels[1].x_label, "step");
  EXPECT_THAT(panels[1].curves[0].points, ElementsAre(Pair(50, 5), Pair(100, 6)));
}

TEST(RunCurves, MarksTheBestValueAndSmoothsManyTrainingValues) {
  const test::TempDir dir;
  std::string rows;
  for (int step = 1; step <= 60; ++step) rows += training_row(step, step % 2 == 0 ? 2 : 4);
  const std::string file =
      dir.write("scalars.json", rows + validation_row(30, 70) + validation_row(60, 65) +
                                    "{\"lr\": 0.1, \"iter\": 61, \"step\": 61}\n");
  const std::vector<RunLog> runs{read_run_log(file)};
  EXPECT_THAT(usual_keys(runs), ElementsAre("loss", "mIoU"));
  const auto panels = curve_panels(runs, {"loss", "mIoU", "lr"});
  EXPECT_GT(panels[0].curves[0].smoothing, 0);
  EXPECT_GT(panels[0].curves[0].best->second, 2.2) << "of the smoothed line";
  EXPECT_EQ(panels[1].curves[0].smoothing, 0);
  EXPECT_EQ(*panels[1].curves[0].best, std::pair(30.0, 70.0));
  EXPECT_FALSE(panels[2].curves[0].best) << "a rate is neither good nor bad";
  const auto raw = curve_panels(runs, {"loss"}, {.smoothing = 0.0});
  EXPECT_EQ(raw[0].curves[0].smoothing, 0);
  EXPECT_EQ(raw[0].curves[0].best->second, 2);
}

TEST(Plot, SmoothingIsAMeanOfThePast) {
  const auto line = smoothed({{1, 4}, {2, 1}, {3, NAN}, {4, 4}}, 0.5);
  EXPECT_THAT(line[0], Pair(1, 4));
  EXPECT_THAT(line[1], Pair(2, 2)) << "(4 / 2 + 1) / 1.5";
  EXPECT_TRUE(std::isnan(line[2].second));
  EXPECT_DOUBLE_EQ(line[3].second, (4 / 4.0 + 1 / 2.0 + 4) / 1.75);
}

TEST(Plot, LogarithmicTicksArePowersOfTen) {
  using ::testing::DoubleEq;
  EXPECT_THAT(log_ticks(0.0009, 1100),
              ElementsAre(DoubleEq(0.001), DoubleEq(0.01), DoubleEq(0.1), 1, 10, 100, 1000));
  EXPECT_THAT(log_ticks(0.09, 2.5), ElementsAre(DoubleEq(0.1), DoubleEq(0.2), DoubleEq(0.5), 1, 2));
  EXPECT_GE(log_ticks(3, 4).size(), 3u);
}

/// The whole SVG is compared by its parts: axes from 0, one legend, marks.
TEST(Plot, SvgHasOneAxisFromZeroALegendAndMarks) {
  PlotCurve loss{.name = "a & b", .points = {{200, 3}, {400, 2}, {800, 1}}, .smoothing = 0.5};
  PlotCurve metric{.name = "a & b", .points = {{400, 50}, {800, 40}}};
  metric.best = {400, 50};
  metric.resumes = {400};
  SvgCanvas canvas(1000, plot_height(2));
  draw_plot(canvas, {{"loss", "step", {loss, {.name = "other"}}},
                     {"mIoU", "step", {metric, {.name = "other"}}}});
  const std::string svg = canvas.document();
  const auto count = [&](const std::string& words) {
    size_t n = 0;
    for (size_t at = 0; (at = svg.find(words, at)) != std::string::npos; ++at) ++n;
    return n;
  };
  EXPECT_THAT(svg, HasSubstr("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"1000\""));
  EXPECT_EQ(count(">a &amp; b</text>"), 1u) << "one legend for all panels";
  EXPECT_EQ(count(">other</text>"), 1u);
  EXPECT_EQ(count(">as recorded</text>"), 1u);
  EXPECT_EQ(count(">resumed</text>"), 1u);
  EXPECT_EQ(count(">best 50 at 400</text>"), 1u);
  EXPECT_EQ(count(">step</text>"), 1u) << "below the last panel alone";
  EXPECT_EQ(count(">800</text>"), 1u);
  EXPECT_GE(count(">0</text>"), 1u) << "the axis begins at 0";
  EXPECT_EQ(count("stroke-dasharray"), 2u) << "in the panel and in the legend";
  EXPECT_EQ(svg.find("href"), std::string::npos);
}

TEST(Plot, HeightGrowsWithThePanels) {
  EXPECT_EQ(plot_height(2), 600);
  EXPECT_GT(plot_height(3) - plot_height(2), 200);
  EXPECT_EQ(plot_height(5) - plot_height(4), plot_height(3) - plot_height(2));
}

TEST(RunCurves, AreWrittenIntoTheWorkDir) {
  const test::TempDir dir;
  EXPECT_FALSE(write_run_curves(dir.path().string())) << "nothing is recorded";
  dir.write("20260101_000000/vis_data/scalars.json", training_row(10, 3) + validation_row(10, 50));
  EXPECT_TRUE(write_run_curves(dir.path().string()));
  EXPECT_EQ(read_image(dir / "curves.png").size(), cv::Size(1000, 600));
}

}  // namespace
}  // namespace seg
