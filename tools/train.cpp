/// Trains the model of a configuration.
#include "runners/start/options.hpp"
#include "runners/train/training_run.hpp"
#include "tools/common/command_line.hpp"
#include "tools/common/help.hpp"

namespace {

struct TrainArguments {
  std::string config;
  seg::TrainOptions options;
  std::vector<std::string> resume, overrides;
  std::string check_data;
};

int train(TrainArguments& arguments, const CLI::App& app) {
  seg::TrainOptions& options = arguments.options;
  options.resume = app.count("--resume") > 0;
  // "auto" is the word of MMSegmentation's own command line for no value.
  if (!arguments.resume.empty() && !arguments.resume[0].empty() && arguments.resume[0] != "auto") {
    options.resume_from = arguments.resume[0];
  }
  const seg::RunConfig config =
      seg::load_run_config(arguments.config, arguments.overrides,
                           [&](seg::Config& tree) { seg::apply_options(tree, options); });
  size_t checked = seg::DatasetCheckParams().annotations;
  if (arguments.check_data == "all") {
    checked = seg::DatasetCheckParams::kAll;
  } else if (!arguments.check_data.empty()) {
    checked = std::stoul(arguments.check_data);
  }
  seg::run_training(config, checked);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return seg::run_main(
      argc, argv,
      "Trains the model of a configuration. The outputs are in the work dir: the log, checkpoints, "
      "the values of losses and metrics.",
      [](CLI::App& app) {
        seg::add_help(app,
                      {.example = "tools/train configs/quickstart.yaml --work-dir work_dirs/first",
                       .exit_codes = {3, 20, 21, 22}});
        auto arguments = std::make_shared<TrainArguments>();
        app.add_option("config", arguments->config, "configuration file")->required();
        app.add_option("--work-dir", arguments->options.work_dir,
                       "folder of the outputs (default: work_dir of the configuration, else "
                       "./work_dirs/<its name>)")
            ->type_name("DIR");
        app.add_option(
               "--resume", arguments->resume,
               "continue from this checkpoint; without one, from the newest in the work dir")
            ->type_name("[CHECKPOINT]")
            ->expected(0, 1);
        app.add_flag("--reset-schedule", arguments->options.reset_schedule,
                     "with --resume: learning rates, other hyper-parameters and schedules follow "
                     "the configuration and not the checkpoint");
        seg::add_device(app, arguments->options.device);
        app.add_option("--check-data", arguments->check_data,
                       "annotations of each data set to look at before the first step; all: every "
                       "annotation and image is read (default: 32)")
            ->type_name("N|all")
            ->check(CLI::Validator(
                [](const std::string& given) {
                  return given == "all" ? std::string() : seg::whole_number(0)(given);
                },
                ""));
        app.add_flag("--amp", arguments->options.amp, "train in mixed precision");
        seg::add_quiet(app);
        seg::add_launcher(app, arguments->options.launcher);
        seg::add_cfg_options(app, arguments->overrides);
        return [arguments, &app] { return train(*arguments, app); };
      });
}
