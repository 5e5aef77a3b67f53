/// Trains base models and the models that learn from their predictions, and compares all.
#include <iostream>

#include "runners/ensemble/run.hpp"
#include "tools/common/command_line.hpp"
#include "tools/common/help.hpp"

namespace {

struct EnsembleArguments {
  std::string file;
  seg::EnsembleOptions options;
  bool dry_run = false;
};

int ensemble(const EnsembleArguments& arguments) {
  if (!arguments.dry_run) return seg::run_ensemble(arguments.file, arguments.options);
  std::cout << seg::ensemble_listing(arguments.file, arguments.options);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  seg::run_main(
      argc, argv,
      "Trains the base models of an ensemble, stores what they predict, trains meta models on "
      "that, "
      "and compares all of them and the means on the test set. The same command goes on after a "
      "stop or a kill. docs/howto.md describes the file.",
      [](CLI::App& app) {
        seg::add_help(app, {.example = "tools/ensemble configs/ensemble/camvid.yaml --dry-run",
                            .exit_codes = {20}});
        auto arguments = std::make_shared<EnsembleArguments>();
        app.add_option("file", arguments->file, "file of the ensemble")->required();
        app.add_option("--work-dir", arguments->options.work_dir,
                       "folder of the ensemble (default: ./work_dirs/<name of its file>)")
            ->type_name("DIR");
        app.add_flag("--dry-run", arguments->dry_run,
                     "check the config of every run, and list what would run");
        seg::add_cfg_options(app, arguments->options.overrides);
        return [arguments] { return ensemble(*arguments); };
      });
}
