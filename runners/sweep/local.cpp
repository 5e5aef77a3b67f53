#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>
#include <sstream>
#include <thread>

#include "registry/log.hpp"
#include "runners/start/signals.hpp"
#include "runners/sweep/asha.hpp"
#include "runners/sweep/engine.hpp"
#include "runners/sweep/gpus.hpp"
#include "runners/sweep/run_one.hpp"

extern "C" {
extern char** environ;  // NOLINT(readability-identifier-naming): POSIX's name
}

namespace seg {
namespace {

constexpr auto kSchedulerPause = std::chrono::milliseconds(100);

/// Shares of this machine that runs get.
class Shares {
 public:
  explicit Shares(const SweepSpec& spec) : per_run_(static_cast<size_t>(spec.gpus_per_run)) {
    gpus_ = names_of_visible_gpus();
    const size_t fit = per_run_ > 0 ? gpus_.size() / per_run_ : 0;
    parallel_ = spec.parallel ? static_cast<size_t>(*spec.parallel) : std::max<size_t>(1, fit);
    const size_t cores = std::max(1U, std::thread::hardware_concurrency());
    threads_ = std::max<size_t>(1, cores / parallel_);
  }
  size_t parallel() const { return parallel_; }

  /// CUDA_VISIBLE_DEVICES of a further run: the GPUs that the fewest of those running have.
  /// \param taken  of the runs that are running.
  std::string gpus(const std::vector<std::string>& taken) const {
    std::map<std::string, size_t> counts;
    for (const std::string& list : taken) {
      std::istringstream in(list);
      for (std::string gpu; std::getline(in, gpu, ',');) ++counts[gpu];
    }
    std::vector<std::string> order = gpus_;
    std::stable_sort(order.begin(), order.end(),
                     [&](const auto& a, const auto& b) { return counts[a] < counts[b]; });
    order.resize(std::min(order.size(), per_run_));
    return join(order, ",");
  }

  /// The environment of a run with these GPUs and its share of cores.
  std::vector<std::string> environment(const std::string& gpus) const {
    std::vector<std::string> out;
    for (char** entry = environ; *entry; ++entry) out.emplace_back(*entry);
    if (!std::getenv("OMP_NUM_THREADS")) out.push_back(text("OMP_NUM_THREADS=", threads_));
    if (gpus_.empty()) return out;
    std::erase_if(out, [](const std::string& e) { return e.starts_with("CUDA_VISIBLE_DEVICES="); });
    out.push_back("CUDA_VISIBLE_DEVICES=" + gpus);
    return out;
  }

 private:
  size_t per_run_;
  std::vector<std::string> gpus_;
  size_t parallel_ = 1, threads_ = 1;
};

/// Starts a program in a session of its own.
pid_t start_program(const std::vector<std::string>& words,
                    const std::vector<std::string>& environment) {
  const auto pointers = [](const std::vector<std::string>& strings) {
    std::vector<char*> out;
    for (const std::string& one : strings) out.push_back(const_cast<char*>(one.c_str()));
    out.push_back(nullptr);
    return out;
  };
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
  pid_t pid = -1;
  const int error = posix_spawn(&pid, words[0].c_str(), nullptr, &attributes,
                                pointers(words).data(), pointers(environment).data());
  posix_spawnattr_destroy(&attributes);
  if (error != 0) throw DataError(text("cannot start ", words[0], ": ", std::strerror(error)));
  return pid;
}

class LocalSweep {
 public:
  LocalSweep(const SweepFolder& folder, const SweepSpec& spec, SweepDisplay& display)
      : folder_(folder), spec_(spec), display_(display), shares_(spec), reader_(folder, spec) {}

  int run() {
    watch_stop_signals();
    try {
      for (;;) {
        const auto begin = std::chrono::steady_clock::now();
        if (!step()) break;
        // Reading what hundreds of runs recorded may take longer than the pause.
        const auto took = std::chrono::steady_clock::now() - begin;
        std::this_thread::sleep_for(std::max<std::chrono::nanoseconds>(kSchedulerPause, 4 * took));
      }
    } catch (...) {
      // A disk that is full, most likely: none is left behind without anybody who waits for it.
      stop_all();
      throw;
    }
    return told_ ? 20 : 0;
  }

 private:
  /// \return whether anything is left to wait for.
  bool step() {
    reap();
    auto reports = reader_.read();
    settle_lost(reports);
    count_started(reports);
    display_.show(reports);
    if (stop_signal() != 0 && !told_) {
      log::info("stopping: each run saves a checkpoint");
      stop_all();
      told_ = true;
    }
    size_t running = 0;
    for (const RunReport& report : reports) running += is_running(report) ? 1 : 0;
    while (!told_ && running < shares_.parallel()) {
      const auto next = next_run(reports);
      if (!next) break;
      start(reports, *next);
      ++running;
    }
    return running > 0;
  }

  bool is_running(const RunReport& report) const {
    return children_.count(report.run.number) > 0 || report.status == RunStatus::kRunning;
  }

  void reap() {
    std::erase_if(children_, [&](const auto& child) {
      int status = 0;
      if (waitpid(child.second, &status, WNOHANG) != child.second) return false;
      if (status != 0) lost_.emplace_back(child.first, status);
      return true;
    });
  }

  /// The process of a run records how it ended, unless it was killed or could not write.
  void settle_lost(std::vector<RunReport>& reports) {
    for (const auto& [number, status] : std::exchange(lost_, {})) {
      // One that was stopped before it listened to signals did nothing yet.
      if (told_ || (WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM)) continue;
      for (RunReport& report : reports) {
        // A dead process that is recorded as running counts as queued.
        if (report.run.number != number || report.status != RunStatus::kQueued) continue;
        report.state.status = report.status = RunStatus::kFailed;
        report.state.error =
            WIFSIGNALED(status)
                ? "the process that watched it was killed by " + stop_signal_name(WTERMSIG(status))
                : text("the process that watched it ended with code ", WEXITSTATUS(status));
        folder_.write_state(report.run, report.state);
      }
    }
  }

  /// A process that was started just now has not recorded it yet.
  void count_started(std::vector<RunReport>& reports) const {
    for (RunReport& report : reports) {
      if (report.status != RunStatus::kQueued || !children_.count(report.run.number)) continue;
      report.status = RunStatus::kRunning;
      report.state.starts = std::max<int64_t>(1, report.state.starts);
    }
  }

  std::optional<size_t> next_run(std::vector<RunReport>& reports) {
    const std::string reached = budget_reached(spec_, folder_, reports);
    const auto waits = [&](const RunReport& report, bool fresh) {
      const bool open = report.status == RunStatus::kQueued || report.status == RunStatus::kStopped;
      return open && !is_running(report) && !tried_.count(report.run.number) &&
             (report.state.starts == 0) == fresh;
    };
    for (size_t i = 0; i < reports.size(); ++i) {
      if (waits(reports[i], /*fresh=*/false)) return i;
    }
    if (!reached.empty()) {
      if (!std::exchange(told_of_budget_, true)) {
        log::info("the budget of ", reached, " is used up: no more runs are started");
      }
      return std::nullopt;
    }
    if (spec_.uses_asha()) {
      if (const auto promoted = promote(reports, /*last=*/false)) return promoted;
    }
    for (size_t i = 0; i < reports.size(); ++i) {
      if (waits(reports[i], /*fresh=*/true)) return i;
    }
    const bool idle = std::none_of(reports.begin(), reports.end(),
                                   [&](const RunReport& r) { return is_running(r); });
    return spec_.uses_asha() && idle ? promote(reports, /*last=*/true) : std::nullopt;
  }

  std::optional<size_t> promote(std::vector<RunReport>& reports, bool last) {
    const FolderLock lock(folder_.start_file());
    const AshaRule rule(spec_, reports);
    const auto chosen = last ? rule.last_promotion() : rule.next_promotion();
    if (!chosen) return std::nullopt;
    RunReport& report = reports[*chosen];
    ++report.state.rung;
    report.state.status = report.status = RunStatus::kQueued;
    folder_.write_state(report.run, report.state);
    tried_.erase(report.run.number);
    return chosen;
  }

  void start(std::vector<RunReport>& reports, size_t index) {
    RunReport& report = reports[index];
    std::vector<std::string> taken;
    for (const RunReport& other : reports) {
      const auto own = gpus_.find(other.run.number);
      if (is_running(other)) taken.push_back(own != gpus_.end() ? own->second : other.state.gpus);
    }
    const size_t number = report.run.number;
    gpus_[number] = shares_.gpus(taken);
    children_[number] =
        start_program({program_beside("sweep"), "run", folder_.path(), "--index", text(number)},
                      shares_.environment(gpus_[number]));
    // Once a start: what somebody stops stays stopped.
    tried_.insert(number);
    count_started(reports);
  }

  /// Asks all runs to save and end. Those of an earlier start are asked, too.
  void stop_all() {
    for (const auto& [number, pid] : children_) kill(pid, SIGTERM);
    for (const RunReport& report : read_reports(folder_, spec_)) {
      const bool own = children_.count(report.run.number) > 0;
      if (!own && report.status == RunStatus::kRunning) {
        kill(report.state.process.pid, SIGTERM);
      }
    }
  }

  const SweepFolder& folder_;
  const SweepSpec& spec_;
  SweepDisplay& display_;
  Shares shares_;
  ReportReader reader_;
  std::map<size_t, pid_t> children_;    ///< by number of the run
  std::map<size_t, std::string> gpus_;  ///< of those started here
  /// Numbers of runs whose processes ended just now, other than well, and how.
  std::vector<std::pair<size_t, int>> lost_;
  std::set<size_t> tried_;
  bool told_ = false, told_of_budget_ = false;
};

}  // namespace

int run_local(const SweepFolder& folder, const SweepSpec& spec, SweepDisplay& display) {
  return LocalSweep(folder, spec, display).run();
}

}  // namespace seg
