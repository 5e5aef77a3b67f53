/// Counts the samples that a run skipped as corrupt.
#pragma once
#include <cstdint>

namespace seg {

class Communicator;
class Dataset;

/// Samples of a data set found corrupt so far; one found by several processes counts once.
/// Collective.
int64_t count_corrupt(const Dataset& dataset, Communicator& communicator);

}  // namespace seg
