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

/// Seed of the run that wrote a checkpoint, if known.
std::optional<uint64_t> seed_of_checkpoint(const Value& checkpoint);

}  // namespace seg
