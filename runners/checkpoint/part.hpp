/// Parts of a run that keep state of their own in checkpoints.
#pragma once
#include "segcore/io/value.hpp"

namespace seg {

class CheckpointPart {
 public:
  virtual ~CheckpointPart() = default;
  /// Adds to a checkpoint what a resumed run needs; may change what it holds already.
  virtual void save_state(Value& /*checkpoint*/) const {}
  /// Takes it back. Called on resuming, before the weights are loaded, and not for `load_from`.
  virtual void load_state(Value& /*checkpoint*/) {}
  /// Whether `state_dict` of the checkpoint becomes an average of the weights.
  virtual bool averages_weights() const { return false; }
};

}  // namespace seg
