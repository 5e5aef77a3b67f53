/// Says what ended a run, from the records that its processes left.
#include <algorithm>
#include <filesystem>
#include <iostream>

#include "registry/file_text.hpp"
#include "runners/checkpoint/find.hpp"
#include "runners/log/flight_report.hpp"
#include "tools/common/command_line.hpp"
#include "tools/common/help.hpp"

namespace fs = std::filesystem;

namespace {

/// The log file of a launch; empty where the folder is none.
std::string log_of_launch(const fs::path& folder) {
  const fs::path log = folder / (folder.filename().string() + ".log");
  return fs::exists(log) ? log.string() : "";
}

/// The newest launch in a work dir, or the folder itself if it is one.
fs::path newest_launch(const std::string& given) {
  // "runs/x/" has no last name.
  fs::path folder = fs::path(given).lexically_normal();
  if (!folder.has_filename()) folder = folder.parent_path();
  if (!fs::is_directory(folder)) throw seg::DataError("there is no folder '" + given + "'");
  if (!log_of_launch(folder).empty()) return folder;
  fs::path newest;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (!entry.is_directory() || log_of_launch(entry.path()).empty()) continue;
    if (newest.empty() || entry.path().filename() > newest.filename()) newest = entry.path();
  }
  if (newest.empty()) throw seg::DataError("'" + given + "' is not the work dir of a run");
  return newest;
}

int why(const std::string& given) {
  const fs::path launch = newest_launch(given);
  const auto logs = seg::read_flight_logs(launch.string());
  std::cout << launch.string() << '\n';
  if (logs.empty()) {
    const auto log = seg::file_text(log_of_launch(launch));
    std::cout << seg::report_without_records(log.value_or(""));
  } else {
    std::cout << seg::flight_report(logs);
  }
  const std::string checkpoint = seg::newest_checkpoint_name(launch.parent_path().string());
  if (!checkpoint.empty()) std::cout << "--resume continues from " << checkpoint << '\n';
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  seg::run_main(
      argc, argv,
      "Says what ended the last launch of a run: what happened first, on which rank and batch, "
      "where "
      "the other processes were, and what to do. It reads the records <launch>/flight_<rank>.json, "
      "which processes leave at errors, crashes and signals.",
      [](CLI::App& app) {
        seg::add_help(app, {.example = "tools/why work_dirs/first", .exit_codes = {}});
        auto folder = std::make_shared<std::string>();
        app.add_option("work_dir", *folder, "work dir of a run, or folder of one launch")
            ->required();
        return [folder] { return why(*folder); };
      });
}
