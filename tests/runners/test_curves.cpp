#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <opencv2/core.hpp>

#include "registry/error.hpp"
#include "runners/visualization/plot.hpp"
#include "runners/visualization/run_log.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

template <class F>
std::string curve_error(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(RunLog, JoinsTheLaunchesOfAWorkDir) {
  const test::TempDir dir;
  dir.write("run/20260101_000000/vis_data/scalars.json",
            "{\"loss\": 3.0, \"iter\": 10, \"step\": 10}\n"
            "{\"loss\": 2.0, \"iter\": 20, \"step\": 20}\n"
            "{\"mIoU\": 5.0, \"time\": 1.0, \"step\": 20}\n"
            "{\"loss\": 9.0, \"iter\": 30, \"step\": 30}\n");
  dir.write("run/20260102_000000/vis_data/scalars.json",
            "{\"loss\": 1.0, \"iter\": 30, \"step\": 30}\n"
            "{\"mIoU\": 7.5, \"IoU.sky\": NaN, \"step\": 30}\n"
            "{\"loss\": 0.5, \"it");
  std::vector<RunLog> runs{read_run_log(dir / "run")};
  EXPECT_THAT(runs[0].find("loss")->points,
              ElementsAre(Pair(10, 3.0), Pair(20, 2.0), Pair(30, 1.0)));
  EXPECT_THAT(runs[0].find("mIoU")->points, ElementsAre(Pair(20, 5.0), Pair(30, 7.5)));
  EXPECT_EQ(runs[0].find("IoU.sky"), nullptr);
  runs.push_back(read_run_log(dir / "run/20260101_000000"));
  EXPECT_EQ(runs[1].find("loss")->points.size(), 3u);
  runs.push_back(read_run_log(dir / "run/20260102_000000/vis_data/scalars.json"));
  name_runs(runs);
  EXPECT_EQ(runs[0].name, "run");
  EXPECT_EQ(runs[2].name, "20260102_000000");
  EXPECT_EQ(curves_csv({runs[0]}, {"loss", "mIoU"}),
            "run,step,loss,mIoU\nrun,10,3.0,\nrun,20,2.0,5.0\nrun,30,1.0,7.5\n");
  EXPECT_EQ(curves_summary({runs[0]}, {"mIoU"}),
            "run  mIoU: last 7.5 (step 30), lowest 5 (step 20), highest 7.5 (step 30)\n");
}

TEST(RunLog, MetricsOfEpochsHaveTheirOwnSteps) {
  const test::TempDir dir;
  const std::string file = dir.write("scalars.json",
                                     "{\"loss\": 3.0, \"epoch\": 1, \"iter\": 50, \"step\": 50}\n"
                                     "{\"mIoU\": 5.0, \"step\": 1}\n"
                                     "{\"loss\": 2.0, \"epoch\": 2, \"iter\": 100, \"step\": 100}\n"
                                     "{\"mIoU\": 6.0, \"step\": 2}\n");
  const RunLog run = read_run_log(file);
  EXPECT_FALSE(run.find("loss")->by_epoch);
  EXPECT_TRUE(run.find("mIoU")->by_epoch);
  EXPECT_THAT(run.find("mIoU")->points, ElementsAre(Pair(1, 5.0), Pair(2, 6.0)));
}

TEST(RunLog, MetricsOfEpochsMayBeNumberedBySteps) {
  const test::TempDir dir;
  dir.write("run/20260101_000000/vis_data/scalars.json",
            "{\"loss\": 3.0, \"time\": 0.1, \"epoch\": 1, \"iter\": 30, \"step\": 30}\n"
            "{\"mIoU\": 5.0, \"time\": 0.9, \"step\": 36}\n"
            "{\"loss\": 2.0, \"time\": 0.2, \"epoch\": 2, \"iter\": 66, \"step\": 66}\n"
            "{\"mIoU\": 6.0, \"time\": 0.8, \"step\": 72}\n");
  // The next launch began with a validation that was due, and was killed after it.
  dir.write("run/20260102_000000/vis_data/scalars.json", "{\"mIoU\": 6.5, \"step\": 72}\n");
  RunLog run = read_run_log(dir / "run");
  EXPECT_FALSE(run.find("mIoU")->by_epoch);
  EXPECT_THAT(run.find("mIoU")->points, ElementsAre(Pair(36, 5.0), Pair(72, 6.5)));
  EXPECT_THAT(run.find("time")->points, ElementsAre(Pair(30, 0.1), Pair(66, 0.2)))
      << "of training alone";
  run.name = "run";
  EXPECT_EQ(curves_summary({run}, {"mIoU"}),
            "run  mIoU: last 6.5 (step 72), lowest 5 (step 36), highest 6.5 (step 72)\n");

  // Rows without epochs, of a run that counts them all the same.
  dir.write("scalars.json",
            "{\"loss\": 3.0, \"iter\": 36, \"step\": 36}\n{\"mIoU\": 5.0, \"step\": 1}\n");
  const RunLog epochs = read_run_log(dir / "scalars.json");
  EXPECT_TRUE(epochs.find("mIoU")->by_epoch);
  EXPECT_FALSE(epochs.find("loss")->by_epoch);
}

TEST(RunLog, ReportsWhatIsMissing) {
  const test::TempDir dir;
  const std::string place = dir.path().string();
  EXPECT_EQ(curve_error([&] { read_run_log(dir / "no"); }), place + "/no does not exist");
  EXPECT_EQ(curve_error([&] { read_run_log(place); }),
            "there is no scalars.json in " + place +
                " (a work dir, <work dir>/<time>, or the file itself is expected)");
  const std::string file = dir.write("scalars.json", "");
  EXPECT_EQ(curve_error([&] { read_run_log(file); }), "nothing is recorded yet in " + file);
  dir.write("scalars.json", "{\"loss\": 1.0, \"step\": 1}\nhello\n");
  EXPECT_EQ(curve_error([&] { read_run_log(file); }),
            file + ":2: not a row of recorded values: 'hello'");
  dir.write("scalars.json", "{\"loss\": 1.0, \"step\": 1}\n{\"mIoU\": 1.0, \"step\": 1}\n");
  const RunLog run = read_run_log(file);
  EXPECT_EQ(curve_error([&] {
              check_keys({run}, {"loss", "miou"});
            }),
            "--keys: nothing is recorded under 'miou'. Did you mean 'mIoU'? Known: loss, mIoU");
}

TEST(Plot, TicksAreRound) {
  EXPECT_THAT(round_ticks(0, 160000, 5), ElementsAre(0, 50000, 100000, 150000));
  EXPECT_EQ(tick_text(150000, 50000), "150k");
  EXPECT_EQ(tick_text(0, 50000), "0");
  EXPECT_EQ(tick_text(2500, 2500), "2.5k");
  EXPECT_EQ(round_ticks(0.11, 0.52, 5).size(), 4u);
  EXPECT_EQ(tick_text(0.2, 0.1), "0.2");
  EXPECT_EQ(tick_text(0.25, 0.05), "0.25");
  EXPECT_EQ(tick_text(6e-5, 1e-5), "6e-05");
  EXPECT_EQ(round_ticks(1, 1, 5).size(), 1u);
  EXPECT_EQ(round_ticks(1e17, 1e17 + 16, 5).size(), 1u);
  EXPECT_THAT(round_ticks(10, 190, 1), ElementsAre(50, 100, 150));
}

TEST(Plot, DrawsWhateverItGets) {
  PlotCurve curve{"a", {{0, 1}, {10, 2}, {20, NAN}, {30, 1.5}}};
  const PlotPanel panel{"loss", "step", {curve, {"b \xc3\xa9", {}}}};
  const auto drawn = [](const std::vector<PlotPanel>& panels, int width, int height) {
    RasterCanvas canvas(width, height);
    draw_plot(canvas, panels, "many");
    return cv::mean(canvas.pixels())[0];
  };
  EXPECT_LT(drawn({panel}, 1000, 300), 255.0);
  EXPECT_LT(drawn({}, 1000, 300), 255.0);
  drawn({{"empty", "step", {}}}, 1000, 300);
  drawn({{"flat", "step", {{"c", {{5, 3}}}}}}, 200, 150);
  drawn(std::vector<PlotPanel>(5, panel), 400, 300);
}

}  // namespace
}  // namespace seg
