/// What the stages of a run hand to hooks.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "runners/checkpoint/save.hpp"
#include "runners/log/scalars.hpp"
#include "segcore/data/palette.hpp"
#include "segcore/data/sample.hpp"
#include "segcore/models/loss.hpp"

namespace seg {

class Dataset;

/// Results of one training step.
struct StepResult {
  LossMap losses;        ///< "loss", the sum that was differentiated, then its terms; detached
  int64_t images = 0;    ///< of this process
  at::Tensor grad_norm;  ///< of all gradients before clipping; undefined: not computed
};

/// A validation or a test.
struct EvalInfo {
  bool of_training = true;  ///< a validation
  const Dataset* dataset = nullptr;
  int64_t num_batches = 0;     ///< of this process
  Palette palette;             ///< a colour for each class
  int64_t ignore_index = 255;  ///< label of pixels that count nowhere

  const char* name() const { return of_training ? "val" : "test"; }
};

/// One step of a validation or a test.
struct EvalStep {
  int64_t batch_index = 0;  ///< from 0
  const Batch* batch = nullptr;
  const std::vector<Prediction>* predictions = nullptr;  ///< one per image
  /// Likewise; with the labels that the predictions are compared with, where there are some.
  const std::vector<PackedSample>* truths = nullptr;

  int64_t done() const { return batch_index + 1; }
};

/// Metrics of a whole validation or test, equal in all processes.
struct EvalResult {
  Scalars metrics;    ///< those of single classes last
  std::string table;  ///< of the classes, for the log
};

/// What a hook may ask of the training that it watches.
class RunControl {
 public:
  virtual ~RunControl() = default;
  /// Ends training after this step or validation.
  virtual void stop() = 0;
  /// Validates after this step, where the config has a validation.
  virtual void request_validation() = 0;
  /// Writes a checkpoint of the present state, while training goes on. Collective; the main process
  /// writes.
  /// \param then  called once the file is on the disk, in another thread of the main process: it
  /// may
  ///        touch files and log, not the run.
  virtual void save_checkpoint(const std::string& path, const SaveParts& parts,
                               std::function<void()> then) = 0;
  /// Iteration of the newest checkpoint that a run can be resumed from; -1: none.
  virtual int64_t last_saved_iter() const = 0;
};

}  // namespace seg
