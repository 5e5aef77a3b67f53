/// Length of training and times of validation: the loops of MMEngine's configs.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>

#include "registry/registry.hpp"

namespace seg {

/// What is known of the length before it is built: one of the two.
struct TrainLengthFacts {
  std::optional<int64_t> max_iters, max_epochs;
};

class TrainLength {
 public:
  virtual ~TrainLength() = default;
  /// Of the whole training, for a data set of `epoch_length` batches.
  virtual int64_t max_iters(int64_t epoch_length) const = 0;
  virtual int64_t max_epochs() const = 0;
  virtual bool by_epoch() const = 0;
  /// Whether a validation follows step `iter`, counted from 1.
  virtual bool validates_after(int64_t iter, int64_t epoch_length) const = 0;
};

template <>
struct Category<TrainLength> {
  static constexpr std::string_view name = "training loop";
  using Signature = std::unique_ptr<TrainLength>();
  using Facts = TrainLengthFacts;
};

}  // namespace seg
