/// Tests the weights of a checkpoint on the test set of a configuration.
#include "runners/evaluate/test_run.hpp"
#include "runners/start/run_config.hpp"
#include "tools/common/command_line.hpp"

namespace {

struct TestArguments {
  std::string config, checkpoint;
  seg::TestOptions options;
  std::vector<std::string> overrides;
};

int test(const TestArguments& arguments) {
  const seg::TestOptions& options = arguments.options;
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
        app.add_option("--work-dir", arguments->options.work_dir,
                       "folder of the log and the metrics (default: as in training)")
            ->type_name("DIR");
        app.add_option("--out", arguments->options.out,
                       "write the class ids of each image as a PNG here")
            ->type_name("DIR");
        app.add_option("--show-dir", arguments->options.show_dir,
                       "write image, truth and prediction side by side here")
            ->type_name("DIR");
        seg::add_device(app, arguments->options.device);
        app.add_flag("--tta", arguments->options.tta,
                     "average the predictions for the augmentations of tta_pipeline");
        seg::add_quiet(app);
        seg::add_launcher(app, arguments->options.launcher);
        seg::add_cfg_options(app, arguments->overrides);
        return [arguments] { return test(*arguments); };
      });
}
