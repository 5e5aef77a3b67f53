/// Weights of classes that losses derive from the training data.
#pragma once
#include "runners/start/run_info.hpp"
#include "segcore/data/dataset.hpp"
#include "segcore/models/segmentor.hpp"

namespace seg {

/// Where a loss of the model asks for it (`class_weight: median_frequency` or `inverse`), counts
/// the pixels of each class, a share in each process, and gives the losses their weights. \throws
/// DataError where annotations cannot be read or no pixel is labelled.
void set_class_weights(Segmentor& model, const Dataset& dataset, const RunInfo& run);

}  // namespace seg
