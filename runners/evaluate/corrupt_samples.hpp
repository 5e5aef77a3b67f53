/// The count of the samples that a run passed over because they cannot be used.
#pragma once
#include <cstdint>

namespace seg {

class Communicator;
class Dataset;

/// Samples of a data set that were found unusable so far. One that several processes met counts
/// once. Collective.
int64_t count_corrupt(const Dataset& dataset, Communicator& communicator);

}  // namespace seg
