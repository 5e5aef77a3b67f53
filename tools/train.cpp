/// Trains the model of a configuration.
#include "runners/start/options.hpp"
#include "runners/start/processes.hpp"
#include "runners/start/requeue.hpp"
#include "runners/start/signals.hpp"
#include "runners/train/training_run.hpp"
#include "tools/common/command_line.hpp"
#include "tools/common/help.hpp"
#include "tools/common/local_launch.hpp"

namespace {

struct TrainArguments {
  std::string config;
  seg::TrainOptions options;
  std::vector<std::string> resume, overrides;
  std::string check_data;
  bool requeue = false;
  std::optional<std::string> nproc;
};

/// \return the exit code.
int train_until_signal(const seg::RunConfig& config, size_t checked, bool requeue) {
  const bool first = seg::is_first_process(config.launcher);
  if (requeue && first) seg::check_requeue();
  try {
    seg::run_training(config, checked);
    return 0;
  } catch (const seg::RunEnded& e) {
    if (e.exit_code() != seg::kStoppedBySignal) throw;
    // All processes stop after the same step: one reports it.
    if (!first) return e.exit_code();
    if (requeue) seg::requeue_job();
    throw;
  }
}

/// `train --resume config.yaml`: the word after --resume is taken for its value.
std::string no_configuration(const std::string& word) {
  for (const char* suffix : {".yaml", ".yml", ".json"}) {
    if (word.ends_with(suffix)) {
      return seg::text("'", word,
                       "' is a configuration, not a checkpoint: write it before --resume");
    }
  }
  return "";
}

int train(TrainArguments& arguments, const CLI::App& app, const std::vector<std::string>& words) {
  seg::TrainOptions& options = arguments.options;
  const auto launch = seg::local_launch(arguments.nproc, options.launcher, words);
  options.resume = app.count("--resume") > 0;
  // "auto" is the word of MMSegmentation's own command line for no value.
  if (!arguments.resume.empty() && !arguments.resume[0].empty() && arguments.resume[0] != "auto") {
    options.resume_from = arguments.resume[0];
  }
  const seg::RunConfig config =
      seg::load_run_config(arguments.config, arguments.overrides,
                           [&](seg::Config& tree) { seg::apply_options(tree, options); });
  if (launch) return seg::launch_processes(*launch);
  size_t checked = seg::DatasetCheckParams().annotations;
  if (arguments.check_data == "all") {
    checked = seg::DatasetCheckParams::kAll;
  } else if (!arguments.check_data.empty()) {
    checked = std::stoul(arguments.check_data);
  }
  return train_until_signal(config, checked, arguments.requeue);
}

}  // namespace

int main(int argc, char** argv) {
  seg::run_main(
      argc, argv,
      "Trains the model of a configuration. The outputs are in the work dir: the log, checkpoints, "
      "the values of losses and metrics.",
      [argc, argv](CLI::App& app) {
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
            ->expected(0, 1)
            ->check(no_configuration);
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
        app.add_option("--global-batch", arguments->options.global_batch,
                       "samples of a step over all processes, which share them equally (default: "
                       "train_dataloader.batch_size for each process; on --resume with another "
                       "number of processes, as before)")
            ->type_name("N")
            ->check(seg::whole_number(1));
        app.add_flag("--requeue", arguments->requeue,
                     "when a signal ends the run, have Slurm queue the job again (scontrol "
                     "requeue); with --resume it then continues");
        seg::add_quiet(app);
        seg::add_nproc(app, arguments->nproc);
        seg::add_launcher(app, arguments->options.launcher);
        seg::add_cfg_options(app, arguments->overrides);
        return [arguments, &app, words = std::vector<std::string>(argv, argv + argc)] {
          return train(*arguments, app, words);
        };
      });
}
