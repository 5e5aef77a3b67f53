/// Compares the sizes at which training and evaluation show objects.
#pragma once
#include <string>

namespace seg {

class Dataset;
struct Batch;
struct RunConfig;

/// Runs the pipeline of training on a few samples, and compares how much it and that of validation
/// resize images.
/// \return a warning where validation shows objects more than 1.5 times larger or smaller than any
///         of the training samples; "" otherwise.
std::string scale_warning(const Dataset& training, const Batch& validation);
/// The same for a test, of which a few samples are read as well. A config without the files of
/// training is not compared.
std::string test_scale_warning(const RunConfig& config, const Dataset& test);

}  // namespace seg
