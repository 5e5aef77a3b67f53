/// Modules that keep what they computed for later forward passes.
#pragma once

namespace seg {

/// Base, beside its own, of a module that computes something in one forward pass for others, and
/// decides anew in each whether it still holds: a record of the kernels of one pass cannot.
class KeepsResults {
 public:
  virtual ~KeepsResults() = default;
};

}  // namespace seg
