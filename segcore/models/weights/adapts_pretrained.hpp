/// Modules that adapt the weights of a file before they load them.
#pragma once
#include "segcore/io/value.hpp"

namespace seg {

/// A module whose position embeddings or tables must be resized, or completed, to fit.
class AdaptsPretrained {
 public:
  virtual ~AdaptsPretrained() = default;
  /// \param state  dict of name -> tensor, names without prefix; entries may be replaced.
  virtual void adapt_pretrained(Value& state) const = 0;
};

}  // namespace seg
