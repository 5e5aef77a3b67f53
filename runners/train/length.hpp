/// The loops of a run: training by iterations or by epochs, validation and test.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "registry/registry.hpp"

namespace seg {

struct RunContext;

/// Decides how long training goes on and when it is validated. The steps themselves are the
/// runner's: see `Hook` for the loop.
class TrainLoop {
 public:
  virtual ~TrainLoop() = default;
  /// Of the whole training, for a data set of `epoch_length` batches.
  virtual int64_t max_iters(int64_t epoch_length) const = 0;
  virtual int64_t max_epochs() const = 0;
  virtual bool by_epoch() const = 0;
  /// Whether a validation follows step `iter` (counted from 1).
  virtual bool validates_after(int64_t iter, int64_t epoch_length) const = 0;
};

template <>
struct Category<TrainLoop> {
  static constexpr std::string_view name = "training loop";
  using Signature = std::unique_ptr<TrainLoop>();
};

/// How a validation or a test is run.
class EvalLoop {
 public:
  virtual ~EvalLoop() = default;
  /// Half precision on the device.
  virtual bool fp16() const = 0;
};

template <>
struct Category<EvalLoop> {
  static constexpr std::string_view name = "evaluation loop";
  using Signature = std::unique_ptr<EvalLoop>();
};

}  // namespace seg
