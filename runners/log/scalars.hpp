/// The values that a run records: losses, rates and times, with their recent history.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "segcore/dist/communicator.hpp"
#include "segcore/io/value.hpp"

namespace seg {

/// Named numbers in the order in which they first appeared.
using Scalars = std::vector<std::pair<std::string, double>>;

/// The value of a name, or nullptr.
const double* find_scalar(const Scalars& scalars, std::string_view name);

/// Histories of named values. Values given as tensors are fetched from the device only when one is
/// read, all at once, so that recording does not wait for a GPU.
class ScalarHistory {
 public:
  /// Keeps the last `length` values of each name.
  explicit ScalarHistory(size_t length = 10) : length_(length) {}

  void record(std::string_view name, double value);
  /// \param value  of one element: what this process computed from its part of a batch.
  void record(std::string_view name, const at::Tensor& value);
  /// Replaces what was recorded as tensors since the last call by the means over all processes.
  /// Collective; all must have recorded the same names equally often.
  void average_over(Communicator& processes);
  /// In order of first appearance.
  std::vector<std::string> names() const;
  /// False where the name was never recorded; so are the readers below never to be called.
  bool has(std::string_view name) const;
  double current(std::string_view name);
  /// Of the last `window` values (0: of all that are kept): mean, min, max.
  double mean(std::string_view name, size_t window);
  double min(std::string_view name, size_t window);
  double max(std::string_view name, size_t window);
  void clear() { entries_.clear(), pending_.clear(); }

  /// Fetches what is still on the device.
  void flush();
  /// What a resumed run continues with, and back.
  Value state();
  void load_state(const Value& state);

 private:
  struct Entry {
    std::string name;
    std::deque<double> values;
    size_t own = 0;  ///< how many of the last are of this process alone
  };
  Entry& entry(std::string_view name);
  void push(Entry& entry, double value);
  void push_own(Entry& entry, double value);

  size_t length_;
  std::vector<Entry> entries_;
  /// Entry, place in it counted from the end at the time of flush(), and the tensor.
  std::vector<std::pair<size_t, at::Tensor>> pending_;
};

}  // namespace seg
