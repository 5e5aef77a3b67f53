#include "runners/ensemble/test_stage.hpp"

#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "registry/file_text.hpp"
#include "registry/log.hpp"
#include "runners/start/signals.hpp"
#include "runners/sweep/child_program.hpp"
#include "runners/sweep/run_one.hpp"
#include "segcore/io/atomic_file.hpp"

namespace seg {
namespace {

namespace fs = std::filesystem;

constexpr auto kChildPause = std::chrono::milliseconds(50);

nlohmann::ordered_json read_metrics(const std::string& path) {
  return nlohmann::ordered_json::parse(file_text(path).value_or("{}"), nullptr,
                                       /*allow_exceptions=*/false);
}

/// What the newest test of a work dir recorded: <time>/<time>.json.
std::string newest_record(const std::string& work_dir) {
  std::string newest;
  for (const auto& entry : fs::directory_iterator(work_dir)) {
    const fs::path record = entry.path() / (entry.path().filename().string() + ".json");
    if (fs::exists(record)) newest = std::max(newest, record.string());
  }
  return newest;
}

}  // namespace

std::string TestStage::work_dir(const std::string& name, const std::string& split) const {
  return folder_ + "/" + name + "/" + split;
}

std::string TestStage::predictions_of(const std::string& name) const {
  return work_dir(name, "test") + "/predictions";
}

bool TestStage::done(const EnsembleTest& test) const {
  std::error_code none;
  const std::string result = work_dir(test.name, test.split) + "/metrics.json";
  if (!fs::exists(result)) return false;
  if (!test.probabilities.empty() && !fs::exists(test.probabilities)) return false;
  const auto written = fs::last_write_time(result, none);
  return std::ranges::none_of(test.newer_than, [&](const std::string& file) {
    return fs::last_write_time(file, none) > written;
  });
}

void TestStage::run(const EnsembleTest& test) const {
  if (done(test)) return;
  const std::string folder = work_dir(test.name, test.split);
  make_folders(folder);
  std::vector<std::string> words{program_beside("test"),
                                 test.config,
                                 test.checkpoint,
                                 "--work-dir",
                                 folder,
                                 "--split",
                                 test.split};
  if (!test.probabilities.empty()) {
    words.insert(words.end(), {"--out-probs", test.probabilities});
  }
  if (test.split == "test") words.insert(words.end(), {"--out", predictions_of(test.name)});
  words.insert(words.end(), test.more.begin(), test.more.end());
  log::info("testing ", test.name, " on ", test.split);
  const std::string output = folder + "/output.log";
  const size_t printed = file_text(output).value_or("").size();
  const ChildProgram child(words, output);
  int status = 0;
  for (bool told = false; !child.ended(status);) {
    if (!told && stop_signal() != 0) {
      child.send(SIGTERM);
      told = true;
    }
    std::this_thread::sleep_for(kChildPause);
  }
  if (stop_signal() != 0) {
    throw RunEnded(kStoppedBySignal, text("stopped by ", stop_signal_name(stop_signal()),
                                          "; the same command continues"));
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    const std::string all = file_text(output).value_or("");
    throw DataError(text("the test of ", test.name, " failed: ",
                         failure_text(status, all.substr(printed)), "; its output is in ", output));
  }
  write_file_atomically(folder + "/metrics.json",
                        file_text(newest_record(folder)).value_or("{}\n"));
}

TestMetrics TestStage::metrics(const std::string& name) const {
  TestMetrics out;
  const auto json = read_metrics(work_dir(name, "test") + "/metrics.json");
  for (const auto& [key, value] : json.items()) {
    if (value.is_number()) out.emplace_back(key, value.get<double>());
  }
  return out;
}

}  // namespace seg
