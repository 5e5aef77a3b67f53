/// Trains many configs from one file: each combination of values is a run.
#include <iostream>

#include "runners/sweep/display.hpp"
#include "runners/sweep/plots.hpp"
#include "runners/sweep/run_one.hpp"
#include "runners/sweep/slurm.hpp"
#include "runners/sweep/start.hpp"
#include "runners/sweep/summary.hpp"
#include "runners/sweep/table.hpp"
#include "tools/common/command_line.hpp"
#include "tools/common/help.hpp"

namespace {

struct SweepArguments {
  std::string what, folder;
  seg::SweepOptions options;
  bool dry_run = false, csv = false, json = false;
  std::optional<size_t> index;
};

const std::vector<std::string>& sweep_commands() {
  static const std::vector<std::string> words{"status", "table",   "plot", "best",
                                              "retry",  "summary", "run"};
  return words;
}

/// Options that the command does not have would be ignored without a word.
void check_sweep_options(const SweepArguments& arguments, const CLI::App& app, bool starts) {
  const auto only_for = [&](const char* option, bool right, const char* command) {
    if (app.count(option) > 0 && !right) {
      throw seg::UsageError(seg::text(option, " is for ", command));
    }
  };
  for (const char* option : {"--work-dir", "--dry-run", "--cfg-options"}) {
    only_for(option, starts, "'sweep SWEEP.yaml'");
  }
  only_for("--csv", arguments.what == "table", "'sweep table DIR'");
  only_for("--json", arguments.what == "table", "'sweep table DIR'");
  only_for("--index", arguments.what == "run", "'sweep run DIR'");
  if (arguments.csv && arguments.json) throw seg::UsageError("give --csv or --json, not both");
}

int sweep_command(const SweepArguments& arguments) {
  if (arguments.folder.empty()) {
    throw seg::UsageError(seg::text("'", arguments.what, "' needs the folder of a sweep"));
  }
  if (arguments.what == "retry") return seg::retry_sweep(arguments.folder);
  const seg::SweepFolder folder = seg::SweepFolder::existing(arguments.folder);
  if (arguments.what == "run") {
    if (!arguments.index) throw seg::UsageError("'run' needs --index");
    return seg::run_one(folder, *arguments.index);
  }
  const seg::SweepSpec spec = seg::load_sweep(folder.sweep_file());
  if (arguments.what == "table" && !arguments.csv && !arguments.json) {
    seg::show_table(folder, spec);
    return 0;
  }
  auto reports = seg::read_reports(folder, spec);
  if (spec.engine == "slurm") seg::settle_by_queue(folder, reports);
  if (arguments.what == "status") {
    std::cout << seg::status_text(folder, spec, reports);
  } else if (arguments.what == "table") {
    std::cout << (arguments.csv ? seg::table_csv(spec, reports) : seg::table_json(spec, reports));
  } else if (arguments.what == "best") {
    std::cout << seg::best_config(folder, spec, reports);
  } else if (arguments.what == "plot") {
    const auto written = seg::write_sweep_plots(folder, spec, reports);
    if (written.empty()) throw seg::DataError("nothing is recorded yet in " + folder.path());
    for (const std::string& path : written) std::cout << path << "\n";
  } else {
    if (spec.engine == "slurm" && spec.uses_asha()) seg::promote_in_slurm(folder, spec);
    seg::write_summary(folder, spec, reports);
  }
  return 0;
}

int sweep(const SweepArguments& arguments, const CLI::App& app) {
  const auto& commands = sweep_commands();
  const bool starts = std::find(commands.begin(), commands.end(), arguments.what) == commands.end();
  check_sweep_options(arguments, app, starts);
  if (!starts) return sweep_command(arguments);
  if (!arguments.folder.empty()) {
    throw seg::UsageError(seg::text("there is no command '", arguments.what, "'.",
                                    seg::did_you_mean(arguments.what, commands),
                                    " Known: ", seg::join(commands, ", ")));
  }
  if (arguments.dry_run) {
    std::cout << seg::sweep_listing(arguments.what, arguments.options);
    return 0;
  }
  return seg::start_sweep(arguments.what, arguments.options);
}

}  // namespace

int main(int argc, char** argv) {
  seg::run_main(
      argc, argv,
      "Trains many configs from one file, which names a config and the values to try. All runs are "
      "checked before the first starts. The same command goes on with a sweep that was stopped or "
      "killed: runs that ended are not run again. docs/sweeps.md describes the file.",
      [](CLI::App& app) {
        seg::add_help(app, {.example = "tools/sweep configs/sweeps/quickstart_lr.yaml --dry-run",
                            .exit_codes = {20}});
        auto arguments = std::make_shared<SweepArguments>();
        app.add_option(
               "what", arguments->what,
               "file of a sweep, to start it or go on with it; or status, table, plot (into "
               "PNG files), best (prints the best config), retry (runs failed runs again) "
               "or summary (writes table and plots) with the folder of a sweep")
            ->required();
        app.add_option("folder", arguments->folder, "folder of a sweep");
        app.add_option("--work-dir", arguments->options.work_dir,
                       "folder of the sweep (default: ./work_dirs/<name of its file>)")
            ->type_name("DIR");
        app.add_flag("--dry-run", arguments->dry_run,
                     "check the config of every run, and list what would run");
        app.add_flag("--csv", arguments->csv, "table: as CSV");
        app.add_flag("--json", arguments->json, "table: as JSON");
        app.add_option("--index", arguments->index,
                       "run: the number of the run that this process trains, as tasks of Slurm do")
            ->type_name("N")
            ->check(seg::whole_number(1));
        seg::add_cfg_options(app, arguments->options.overrides);
        return [arguments, &app] { return sweep(*arguments, app); };
      });
}
