/// Finds the checkpoint that a run is resumed from.
#pragma once
#include <optional>
#include <string>

#include "segcore/io/value.hpp"

namespace seg {

struct FoundCheckpoint {
  std::string path;
  Value contents;
};

/// The newest readable checkpoint of a work dir: the one that `last_checkpoint` names, one of that
/// name beside it where the folder was moved, else the one with most iterations there or in the
/// folder of the one named, whatever their names are. Unreadable files are reported and skipped.
/// \throws CheckpointError if there are checkpoints but none can be read.
std::optional<FoundCheckpoint> find_checkpoint(const std::string& work_dir);

/// The name of the regular checkpoint with most iterations or epochs in a folder; empty if none is
/// there. None is read.
std::string newest_checkpoint_name(const std::string& work_dir);

/// The path of the newest `best_*.pth` of a work dir, else of its newest checkpoint.
/// \throws DataError where it holds none. \throws CheckpointError where none can be read.
std::string best_checkpoint(const std::string& work_dir);

/// Seed of the run that wrote a checkpoint, if known.
std::optional<uint64_t> seed_of_checkpoint(const Value& checkpoint);

}  // namespace seg
