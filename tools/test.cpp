/// Tests the weights of a checkpoint on the test set of a configuration.
#include "runners/runner.hpp"
#include "tools/common/command_line.hpp"

namespace {

struct TestArguments {
  std::string config, checkpoint, work_dir, out, show_dir, launcher;
  bool tta = false;
  std::vector<std::string> overrides;
};

int test(const TestArguments& arguments, const CLI::App& app) {
  seg::TestOptions options;
  options.tta = arguments.tta;
  if (app.count("--work-dir")) options.work_dir = arguments.work_dir;
  if (app.count("--out")) options.out = arguments.out;
  if (app.count("--show-dir")) options.show_dir = arguments.show_dir;
  if (app.count("--launcher")) options.launcher = arguments.launcher;
  const seg::RunConfig config =
      seg::load_run_config(arguments.config, arguments.overrides,
                           [&](seg::Config& tree) { seg::apply_options(tree, options); });
  seg::run_test(config, arguments.checkpoint, options);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return seg::run_main(
      argc, argv, "Tests the weights of a checkpoint on the test set of a configuration.",
      [](CLI::App& app) {
        auto arguments = std::make_shared<TestArguments>();
        app.add_option("config", arguments->config, "configuration file")->required();
        app.add_option("checkpoint", arguments->checkpoint, "weights to test")->required();
        app.add_option("--work-dir", arguments->work_dir,
                       "folder of the log and the metrics (default: as in training)")
            ->type_name("DIR");
        app.add_option("--out", arguments->out, "write the class ids of each image as a PNG here")
            ->type_name("DIR");
        app.add_option("--show-dir", arguments->show_dir,
                       "write image, truth and prediction side by side here")
            ->type_name("DIR");
        app.add_flag("--tta", arguments->tta,
                     "average the predictions for the augmentations of tta_pipeline");
        app.add_option("--launcher", arguments->launcher,
                       "who started the processes: none, pytorch, slurm or mpi")
            ->type_name("NAME")
            ->check(seg::known_word({"none", "pytorch", "slurm", "mpi"}));
        app.add_option("--local_rank,--local-rank", "set by older launchers; not used")
            ->type_name("N");
        seg::add_cfg_options(app, arguments->overrides);
        return [arguments, &app] { return test(*arguments, app); };
      });
}
