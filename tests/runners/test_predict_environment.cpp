/// Prediction of images applies `env_cfg`, as training and testing do.
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "runners/evaluate/prediction.hpp"
#include "runners/start/run_config.hpp"
#include "runners/train/training_run.hpp"
#include "segcore/image/image_io.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_images.hpp"
#include "tests/support/tiny_run.hpp"

namespace seg::test {
namespace {

TEST(PredictImages, AppliesTheEnvironmentOfTheConfig) {
  const TempDir dir;
  const std::string path = dir.write("tiny.yaml", tiny_run_yaml());
  run_training(load_run_config(path,
                               {"work_dir=" + (dir / "w"), "train_cfg.max_iters=1",
                                "train_cfg.val_interval=1", "env_cfg.device=cpu"},
                               [](Config&) {}));
  write_png(dir / "a.png", tiny_image(20, 30, 1));
  const int threads = at::get_num_threads();
  at::Context& context = at::globalContext();
  context.setBenchmarkCuDNN(false);
  PredictOptions options;
  options.inputs = {dir / "a.png"};
  options.out = dir / "out";
  predict_images(load_run_config(path,
                                 {"env_cfg.num_threads=3", "env_cfg.cudnn_benchmark=true",
                                  "env_cfg.allow_tf32=true", "env_cfg.device=cpu",
                                  "randomness.deterministic=false"},
                                 [](Config&) {}),
                 dir / "w/iter_1.pth", options);
  EXPECT_EQ(at::get_num_threads(), 3);
  EXPECT_TRUE(context.benchmarkCuDNN());
  EXPECT_TRUE(context.allowTF32CuBLAS());
  at::set_num_threads(threads);
  context.setBenchmarkCuDNN(false);
  context.setAllowTF32CuBLAS(false);
}

}  // namespace
}  // namespace seg::test
