/// Writes the state of a training into checkpoints in MMEngine's format.
#pragma once
#include <functional>
#include <string>

namespace seg {

struct RunInfo;
struct TrainState;

struct SaveParts {
  bool optimizer = true;
  bool schedulers = true;
  /// What an exact continuation needs besides: generators, hooks, histories.
  bool progress = true;
  /// Whether a run can be resumed exactly from it.
  bool all() const { return optimizer && schedulers && progress; }
};

/// Takes a snapshot of the training and has state.writer write it. Collective; the main process
/// writes.
/// \param then  called once the file is on the disk, in the writer's thread of the main process.
void save_checkpoint(const TrainState& state, const std::string& path, const SaveParts& parts = {},
                     std::function<void()> then = {});

/// Makes `last_checkpoint` of the work dir name the file. The main process writes.
void write_last_checkpoint(const RunInfo& run, const std::string& path);

/// Key of segcore's additions to MMEngine's format.
inline constexpr const char* kOwnKey = "segcore";

}  // namespace seg
