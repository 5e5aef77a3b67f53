/// Measures what a configuration costs: a training step, the data pipeline, the start; and how fast
/// a checkpoint is read.
#include <ATen/Parallel.h>

#include <algorithm>
#include <iostream>
#include <optional>
#include <set>

#include "registry/log.hpp"
#include "runners/start/device.hpp"
#include "runners/start/processes.hpp"
#include "tools/common/command_line.hpp"
#include "tools/common/help.hpp"
#include "tools/common/local_launch.hpp"
#include "tools/measure/checkpoint_reading.hpp"
#include "tools/measure/comparison.hpp"
#include "tools/measure/pictures.hpp"
#include "tools/measure/scaling.hpp"
#include "tools/measure/step_options.hpp"
#include "tools/measure/steps.hpp"

namespace {

/// In each of the processes that `--nproc` has started.
void measure_scaling(const seg::BenchmarkArguments& arguments, const seg::RunConfig& config) {
  const c10::Device device =
      seg::choose_device(arguments.device.empty() ? config.env_cfg.device : arguments.device,
                         seg::local_rank(arguments.launcher));
  const auto communicator = seg::join_processes(arguments.launcher, config.env_cfg, device);
  const seg::Measured out{
      {"config", arguments.config},
      {"device", device.str()},
      {"cpu_threads", at::get_num_threads()},
      {"scaling", seg::benchmark_scaling(arguments, config, *communicator, device)}};
  if (communicator->rank() == 0) std::cout << out.dump() << std::endl;
  communicator->barrier();
}

/// `--against`, and `--what all`.
int measure_apart(const seg::BenchmarkArguments& arguments, const seg::RunConfig& config) {
  const bool all = std::count(arguments.what.begin(), arguments.what.end(), "all") > 0;
  if (all && arguments.what.size() > 1) {
    throw seg::UsageError("--what all is given without other measures");
  }
  const auto& compared = seg::compared_measures();
  for (const std::string& what : arguments.what) {
    if (!all && std::count(compared.begin(), compared.end(), what) == 0) {
      throw seg::UsageError(
          seg::text("--against compares ", seg::join(compared, ", "), ", but not ", what));
    }
  }
  const seg::Comparison comparison =
      seg::compare(arguments, all ? compared : arguments.what, config);
  for (const std::string& problem : comparison.problems) {
    std::cerr << "warning: " << problem << "\n";
  }
  std::cerr << comparison.table;
  std::cout << comparison.json << std::endl;
  // Of all, what the configuration or the machine does not have is left out.
  return comparison.missed == 0 || (all && comparison.taken > 0) ? 0 : 1;
}

int benchmark(const seg::BenchmarkArguments& arguments, const std::vector<std::string>& words) {
  // The one line on standard output is the result.
  seg::log::set_level("ERROR");
  if (std::count(arguments.what.begin(), arguments.what.end(), "checkpoint")) {
    if (arguments.what.size() > 1 || !arguments.against.empty()) {
      throw seg::UsageError("--what checkpoint measures a file, the others a configuration");
    }
    const seg::Measured out{{"file", arguments.config},
                            {"cpu_threads", at::get_num_threads()},
                            {"checkpoint", seg::benchmark_checkpoint(arguments)}};
    std::cout << out.dump() << std::endl;
    return 0;
  }
  std::optional<seg::PictureFolder> pictures;
  if (!arguments.pictures.empty()) pictures.emplace();
  const auto load = [&](const std::vector<int64_t>& shape) {
    return seg::load_measured(arguments, shape, [&](seg::Config& tree) {
      if (pictures) pictures->replace_dataset(tree, arguments.pictures[0], arguments.pictures[1]);
    });
  };
  const seg::RunConfig config = load({});
  const std::set<std::string> what(arguments.what.begin(), arguments.what.end());
  if (what.contains("all") || !arguments.against.empty()) return measure_apart(arguments, config);
  if (what.contains("scaling")) {
    if (what.size() > 1) throw seg::UsageError("--what scaling is measured by itself");
    if (arguments.launcher != "none") {
      measure_scaling(arguments, load(arguments.shape));
      return 0;
    }
    const auto launch = seg::local_launch(arguments.nproc.value_or("2"), std::nullopt, words);
    if (!launch) throw seg::UsageError("--what scaling needs --nproc of at least 2");
    return seg::launch_processes(*launch);
  }
  const c10::Device device = seg::measured_device(arguments, config);
  seg::Measured out{{"config", arguments.config},
                    {"device", device.str()},
                    {"cpu_threads", at::get_num_threads()},
                    {"amp", arguments.amp}};
  if (what.contains("start")) out["start"] = seg::benchmark_start(config, device);
  if (what.contains("data")) out["data"] = seg::benchmark_data(arguments, config);
  if (what.contains("step")) {
    // The pipeline's images keep the configuration's shape, the synthetic ones have their own.
    out["step"] = arguments.shape.empty()
                      ? seg::benchmark_step(arguments, config, device)
                      : seg::benchmark_step(arguments, load(arguments.shape), device);
  }
  if (what.contains("train")) out["train"] = seg::benchmark_train(arguments, config, device);
  std::cout << out.dump() << std::endl;
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  seg::run_main(
      argc, argv,
      "Measures what the training of a configuration costs, and prints one line of JSON: a step on "
      "synthetic images (step), the data pipeline alone (data), both together with the share of "
      "time spent waiting for data (train), and the time from the start of the program to the end "
      "of the first step (start). all takes step, data and start, each in a process of its own. "
      "With --against, MMSegmentation takes the same measures in turn, on the same configuration, "
      "and the ratios are printed. --what scaling runs several processes by turns joined and "
      "apart. "
      "With --what checkpoint CONFIG is a checkpoint: the time to read it and copy its weights.",
      [argc, argv](CLI::App& app) {
        seg::add_help(app, {.example = "tools/benchmark configs/quickstart.yaml --iters 5",
                            .exit_codes = {}});
        auto arguments = std::make_shared<seg::BenchmarkArguments>();
        seg::add_step_options(app, *arguments);
        app.add_option("--what", arguments->what,
                       "what to measure: step, data, train, start, one or more (default: step); or "
                       "all; or scaling; or checkpoint")
            ->type_name("NAME ...")
            ->expected(1, 4)
            ->check(seg::known_word(
                {"step", "data", "train", "start", "all", "scaling", "checkpoint"}));
        app.add_option(
               "--against", arguments->against,
               "a Python with mmsegmentation, which takes the same measures in turn: eager, "
               "channels-last and by torch.compile, ours before and after")
            ->type_name("PYTHON");
        app.add_option("--limit", arguments->limit_s,
                       seg::text("seconds that one measurement of --against or --what all may take "
                                 "(default: ",
                                 arguments->limit_s, ")"))
            ->type_name("SECONDS")
            ->check(seg::whole_number(1));
        seg::add_nproc(app, arguments->nproc);
        app.add_option("--launcher", arguments->launcher)->group("");  // set for the processes
        app.add_option("--python", arguments->python,
                       "with --what checkpoint: a Python with torch, to time torch.load(mmap=True) "
                       "and the copy for comparison")
            ->type_name("PROGRAM");
        app.add_option("--threads", arguments->threads,
                       "threads of the loader; with several numbers, data is measured for each "
                       "(default: num_workers of the configuration)")
            ->type_name("N ...")
            ->expected(1, -1)
            ->check(seg::whole_number(0));
        app.add_option("--pictures", arguments->pictures,
                       "use generated pictures of this height and width instead of the files of "
                       "the data set")
            ->type_name("H W")
            ->expected(2)
            ->check(seg::whole_number(1));
        return [arguments, words = std::vector<std::string>(argv, argv + argc)] {
          return benchmark(*arguments, words);
        };
      });
}
