#include "runners/sweep/run_one.hpp"

#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <regex>
#include <sstream>
#include <thread>

#include "registry/file_text.hpp"
#include "registry/log.hpp"
#include "runners/checkpoint/find.hpp"
#include "runners/start/signals.hpp"
#include "runners/sweep/asha.hpp"
#include "runners/sweep/child_program.hpp"
#include "runners/sweep/gpus.hpp"
#include "runners/sweep/slurm.hpp"
#include "segcore/io/atomic_file.hpp"

namespace seg {
namespace {

namespace fs = std::filesystem;

constexpr auto kWatchPause = std::chrono::milliseconds(50);

class RunWatch {
 public:
  RunWatch(const SweepFolder& folder, const SweepSpec& spec, const SweepRun& run)
      : folder_(folder), spec_(spec), run_(run), state_(folder.state_of(run)) {}

  int watch() {
    watch_stop_signals();
    record_start();
    wait_for_earlier_training();
    const size_t printed = file_text(folder_.output_of(run_)).value_or("").size();
    const ChildProgram child(train_command(spec_, folder_, run_), folder_.output_of(run_));
    int status = 0;
    while (!child.ended(status)) {
      if (!told_ && stop_signal() != 0) tell(child);
      if (!told_ && spec_.uses_asha()) decide_at_rung(child);
      std::this_thread::sleep_for(kWatchPause);
    }
    return record_end(status, file_text(folder_.output_of(run_)).value_or("").substr(printed));
  }

 private:
  void record_start() {
    state_.status = RunStatus::kRunning;
    state_.process = ProcessMark::of_this_process();
    state_.job = spec_.engine == "slurm" ? slurm_task() : "";
    const char* gpus = std::getenv("CUDA_VISIBLE_DEVICES");
    state_.gpus = gpus ? gpus : "";
    ++state_.starts;
    state_.exit_code.reset();
    state_.error.clear();
    folder_.write_state(run_, state_);
  }

  /// Training saves a checkpoint and exits.
  void tell(const ChildProgram& child) {
    child.send(SIGTERM);
    told_ = true;
  }

  /// A training whose watching process was killed may still be saving its checkpoint.
  void wait_for_earlier_training() const {
    while (stop_signal() == 0 && !FolderLock::attempt(folder_.work_dir_of(run_))) {
      std::this_thread::sleep_for(kWatchPause);
    }
  }

  void decide_at_rung(const ChildProgram& child) {
    const auto now = std::chrono::steady_clock::now();
    if (now < next_look_) return;
    // Reading takes longer the longer the run is: spend a small share of the time on it.
    const RunReport mine{run_, state_, result_of(folder_, run_, spec_), RunStatus::kRunning};
    next_look_ = now + 20 * (std::chrono::steady_clock::now() - now);
    const AshaRule alone(spec_, {mine});
    if (!alone.next_stop(0) || !alone.reached(0)) return;
    const FolderLock lock(folder_.start_file());
    const auto reports = read_reports(folder_, spec_);
    const AshaRule rule(spec_, reports);
    const auto me = std::find_if(reports.begin(), reports.end(),
                                 [&](const RunReport& r) { return r.run.number == run_.number; });
    if (rule.promotable(static_cast<size_t>(me - reports.begin()))) {
      ++state_.rung;
      folder_.write_state(run_, state_);
    } else {
      paused_ = true;
      tell(child);
    }
  }

  int record_end(int status, const std::string& printed) {
    const bool killed = WIFSIGNALED(status);
    const int code = killed ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    // SIGTERM kills one that does not listen to signals yet, and has nothing to save.
    bool stopped = code == kStoppedBySignal || (killed && WTERMSIG(status) == SIGTERM);
    state_.exit_code = code;
    if (code != 0 && !stopped) {
      state_.error = failure_text(status, printed);
      // What fails while all are stopped, as on a node that goes down, is tried again.
      stopped = stop_signal() != 0;
    }
    state_.status = code == 0  ? RunStatus::kEnded
                    : !stopped ? RunStatus::kFailed
                    : paused_  ? RunStatus::kPaused
                               : RunStatus::kStopped;
    folder_.write_state(run_, state_);
    if (state_.status == RunStatus::kStopped && !state_.job.empty()) {
      requeue_slurm_task(state_.job, stop_signal());
    }
    if (spec_.uses_asha() && !state_.job.empty()) promote_in_slurm(folder_, spec_);
    if (state_.status == RunStatus::kPaused) return 0;
    return stopped ? kStoppedBySignal : code;
  }

  const SweepFolder& folder_;
  const SweepSpec& spec_;
  const SweepRun& run_;
  RunState state_;
  bool told_ = false, paused_ = false;
  std::chrono::steady_clock::time_point next_look_;
};

}  // namespace

std::string program_beside(const std::string& name) {
  return (fs::read_symlink("/proc/self/exe").parent_path() / name).string();
}

std::vector<std::string> train_command(const SweepSpec& spec, const SweepFolder& folder,
                                       const SweepRun& run) {
  const std::string work_dir = folder.work_dir_of(run);
  std::vector<std::string> out{spec.program.value_or(program_beside("train")),
                               folder.config_of(run), "--work-dir", work_dir};
  // Without a checkpoint, --resume would drop the config's load_from.
  if (fs::exists(work_dir + "/last_checkpoint") || !newest_checkpoint_name(work_dir).empty()) {
    out.emplace_back("--resume");
  }
  const auto& more = spec.train_args;
  const bool several = spec.gpus_per_run > 1 && names_of_visible_gpus().size() > 1;
  if (several && std::find(more.begin(), more.end(), "--nproc") == more.end()) {
    out.insert(out.end(), {"--nproc", "gpu"});
  }
  out.insert(out.end(), more.begin(), more.end());
  return out;
}

std::string failure_text(int status, const std::string& output) {
  if (WIFSIGNALED(status)) return "killed by " + stop_signal_name(WTERMSIG(status));
  static const std::regex error("(^|.*: )(internal )?error: .*");
  std::istringstream in(output);
  std::string last, last_error;
  for (std::string line; std::getline(in, line);) {
    if (line.find_first_not_of(" \r\t") == std::string::npos) continue;
    last = line;
    if (std::regex_match(line, error)) last_error = line;
  }
  constexpr size_t kLongest = 400;
  return (last_error.empty() ? last : last_error).substr(0, kLongest);
}

int run_one(const SweepFolder& folder, size_t number) {
  const auto runs = folder.runs();
  const auto run =
      std::find_if(runs.begin(), runs.end(), [&](const SweepRun& r) { return r.number == number; });
  if (run == runs.end()) throw UsageError(text(folder.path(), " has no run ", number));
  // The start of two processes for one run at a time: the other one trains it.
  const auto lock = FolderLock::attempt(folder.config_of(*run));
  if (!lock) return 0;
  const RunStatus status = folder.state_of(*run).status;
  if (status == RunStatus::kEnded || status == RunStatus::kFailed) return 0;
  fs::current_path(folder.start_folder());
  const SweepSpec spec = load_sweep(folder.sweep_file());
  return RunWatch(folder, spec, *run).watch();
}

}  // namespace seg
