/// Compares the sizes at which training and validation show objects.
#pragma once
#include <string>

namespace seg {

class Dataset;

/// Runs the pipelines on a few samples of both data sets and compares how much they resize images.
/// \return a warning where validation shows objects more than 1.5 times larger or smaller than any
///         of the training samples; "" otherwise.
std::string scale_warning(const Dataset& training, const Dataset& validation);

}  // namespace seg
