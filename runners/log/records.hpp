/// The values that a run records.
#pragma once
#include "runners/log/scalars.hpp"
#include "segcore/io/value.hpp"

namespace seg {

struct Records {
  ScalarHistory train;
  ScalarHistory eval;  ///< of the current or last validation or test
  double eta_s = -1;   ///< seconds left of the current loop; negative: unknown
  /// Plain values that checkpoints keep: `runtime_info` of MMEngine's message hub.
  Value facts = Value::dict();
};

}  // namespace seg
