/// Gradients of an accumulation that a checkpoint interrupts, over all processes.
#pragma once
#include "segcore/io/value.hpp"

namespace seg {

class Communicator;
class OptimWrapper;

/// What `OptimWrapper::accumulated` returns, with the gradients of each rank: they are summed over
/// the ranks only when the parameters are updated. Collective; only rank 0 gets those of all.
Value gather_accumulated(const OptimWrapper& optimizer, Communicator& communicator);

/// This rank's part of what `gather_accumulated` returned. For another number of ranks each takes
/// the mean, so that the mean over all stays the same.
Value scatter_accumulated(const Value& saved, const Communicator& communicator);

}  // namespace seg
