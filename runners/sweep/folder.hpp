/// The folder of a sweep, which holds all that is known of it:
///
///   sweep.yaml                   the resolved file of the sweep
///   start.json                   where and when it was started first
///   configs/<run>.yaml           the resolved config of each run
///   runs/<run>/                  the work dir of each run, with
///     overrides.yaml             what it changes, and its number
///     state.json                 how far it came
///     output.log                 what its processes printed
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runners/sweep/space.hpp"

namespace seg {

/// Held on a file or folder. The kernel releases it however the process ends.
class FolderLock {
 public:
  /// Waits until no other process holds it. File systems without locks are not guarded.
  explicit FolderLock(const std::string& path);
  /// Nothing if another process holds it.
  static std::optional<FolderLock> attempt(const std::string& path);
  ~FolderLock();
  FolderLock(FolderLock&& other) noexcept;
  FolderLock& operator=(FolderLock&& other) noexcept;
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  FolderLock(const std::string& path, bool wait, bool& held);
  int file_ = -1;
};

/// A process by more than its id, which the system gives to others later.
struct ProcessMark {
  pid_t pid = 0;
  uint64_t start_time = 0;  ///< of /proc/<pid>/stat
  std::string host;
  static ProcessMark of_this_process();
  /// Whether it runs, on this machine.
  bool alive() const;
};

enum class RunStatus {
  kQueued,   ///< not started yet, or to be started again
  kRunning,  ///< its process is recorded, and may have died since
  kStopped,  ///< ended by a signal, with a checkpoint
  kPaused,   ///< waits at a rung of successive halving
  kEnded,
  kFailed,
};
/// "queued", "running" and so on, as files and tables have it.
std::string status_word(RunStatus status);

/// state.json of a run.
struct RunState {
  RunStatus status = RunStatus::kQueued;
  ProcessMark process;           ///< of the last start
  std::string job;               ///< of Slurm: "12_3"
  std::string gpus;              ///< CUDA_VISIBLE_DEVICES of the last start
  int64_t starts = 0;            ///< how often it was started
  std::optional<int> exit_code;  ///< of the last process that ended
  std::string error;             ///< last error line of a failed one
  int64_t rung = 0;              ///< of successive halving: it may run to this one
};

/// What a run is: its number, and what it changes of which config.
struct SweepRun {
  size_t number = 0;
  std::string name;
  std::string base;        ///< path of its config
  std::string base_label;  ///< "" where the sweep has one base
  ConfigChanges changes;   ///< of the base
  std::optional<int64_t> seed;
  std::optional<int64_t> max_iters, max_epochs;  ///< one of them: the length of its training
  /// Equal for runs that differ by their seed alone.
  std::string group() const;
};

/// Where things are, and reading and writing them. Reading needs no lock: files are written whole.
class SweepFolder {
 public:
  /// \param path  of the sweep's folder; it need not exist.
  explicit SweepFolder(const std::string& path);
  /// The same, of a folder that must hold a sweep. \throws DataError
  static SweepFolder existing(const std::string& path);

  const std::string& path() const { return path_; }
  std::string sweep_file() const { return path_ + "/sweep.yaml"; }
  std::string start_file() const { return path_ + "/start.json"; }
  std::string config_of(const SweepRun& run) const;
  std::string work_dir_of(const SweepRun& run) const;
  std::string output_of(const SweepRun& run) const { return work_dir_of(run) + "/output.log"; }

  /// Notes where and when the sweep was started, unless it was before.
  void record_start() const;
  /// The folder in which relative paths of configs are meant, and the time in seconds.
  std::string start_folder() const;
  int64_t start_time() const;

  /// All runs, by number. \throws DataError for a damaged file.
  std::vector<SweepRun> runs() const;
  /// The config is the first file of a run that is written, its overrides the last.
  void add_run(const SweepRun& run, const std::string& config) const;
  RunState state_of(const SweepRun& run) const;
  void write_state(const SweepRun& run, const RunState& state) const;

 private:
  std::string path_;
};

}  // namespace seg
