/// Puts a training into the state that a checkpoint holds.
#pragma once
#include <string>

#include "segcore/io/value.hpp"

namespace seg {

struct TrainState;

/// Restores model, optimizer, schedules, hooks, histories, generators and progress.
/// \param path  for messages.
/// \throws CheckpointError or WeightsMismatch naming the file.
void load_checkpoint(TrainState& state, Value checkpoint, const std::string& path);

}  // namespace seg
