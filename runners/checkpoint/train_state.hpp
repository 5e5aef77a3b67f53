/// The parts of a training whose state a checkpoint holds.
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "runners/checkpoint/part.hpp"
#include "runners/start/run_info.hpp"
#include "runners/train/progress.hpp"

namespace seg {

struct Records;
class CheckpointWriter;
class DataLoader;
class OptimWrapper;
class ParamScheduler;
class Segmentor;

/// Borrowed from the training.
struct TrainState {
  const RunInfo* run = nullptr;
  Progress* progress = nullptr;
  Records* records = nullptr;
  Segmentor* model = nullptr;
  OptimWrapper* optimizer = nullptr;
  std::vector<std::unique_ptr<ParamScheduler>>* schedulers = nullptr;
  const DataLoader* loader = nullptr;
  CheckpointWriter* writer = nullptr;
  std::vector<CheckpointPart*> parts;  ///< with state of their own, in the order of their turn
  /// Generators at the start of the step or validation in progress, so that one that is given up
  /// leaves no trace in a checkpoint; undefined between them.
  at::Tensor generators_to_resume;
};

}  // namespace seg
