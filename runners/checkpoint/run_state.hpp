/// Writes the state of a run into checkpoints, finds them again, and goes on from them.
#pragma once
#include <optional>
#include <string>
#include <utility>

#include "segcore/io/value.hpp"

namespace seg {

struct RunContext;

struct SaveParts {
  bool optimizer = true;
  bool schedulers = true;
  /// What an exact continuation needs besides: generators, hooks, histories.
  bool progress = true;
};

/// Writes a checkpoint as MMEngine has it. All ranks call it; rank 0 writes.
void save_run_state(RunContext& context, const std::string& path, const SaveParts& parts = {});
/// The file that `last_checkpoint` names from now on. Rank 0 writes.
void write_last_checkpoint(const RunContext& context, const std::string& path);

struct FoundCheckpoint {
  std::string path;
  Value contents;
};

/// The newest readable checkpoint of a work dir: the one that `last_checkpoint` names, that name
/// beside it where the folder was moved, else the one of most iterations. A file that cannot be
/// read is told and passed over.
std::optional<FoundCheckpoint> find_run_state(const std::string& work_dir);

/// Where to go on.
struct ResumePoint {
  int64_t iter = 0;  ///< of this run, whose epochs may be longer or shorter than the saved one's
  int64_t epoch = 0;
  /// The validation after `iter` was not finished when the checkpoint was written.
  bool validation_due = false;
  std::optional<uint64_t> seed;
};

/// Seed of the run that wrote a checkpoint, where it is known.
std::optional<uint64_t> seed_of_run_state(const Value& checkpoint);

/// Puts model, optimizer, schedules, hooks, histories and generators into the state that was saved.
/// \throws CheckpointError or WeightsMismatch naming the file.
ResumePoint load_run_state(RunContext& context, Value checkpoint, const std::string& path);

/// The state of this process's generators (CPU and, where used, the GPU's).
at::Tensor generator_state(const RunContext& context);
void set_generator_state(const RunContext& context, const at::Tensor& state);

}  // namespace seg
