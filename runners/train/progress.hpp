/// How far a training has come.
#pragma once
#include <cstdint>

namespace seg {

struct Progress {
  int64_t iter = 0;  ///< training steps done
  int64_t max_iters = 0;
  int64_t epoch = 0;  ///< epochs done; stays 0 in training by iterations
  int64_t max_epochs = 1;
  int64_t epoch_length = 0;  ///< training batches in one pass over the data
  bool by_epoch = false;
  /// The validation that follows step `iter` is not finished.
  bool validation_due = false;

  /// Place of the last step in its epoch, from 1 to epoch_length.
  int64_t step_in_epoch() const { return epoch_length > 0 ? (iter - 1) % epoch_length + 1 : iter; }
  /// Whether the last step was also the last of its pass over the data.
  bool ends_pass() const { return iter > 0 && epoch_length > 0 && iter % epoch_length == 0; }
  /// Whether the last step ended an epoch. Training by iterations has no epochs.
  bool ends_epoch() const { return by_epoch && ends_pass(); }

  /// Counts one step.
  void advance() {
    ++iter;
    if (ends_epoch()) ++epoch;
  }
};

}  // namespace seg
