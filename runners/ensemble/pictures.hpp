/// Pictures of what the models of an ensemble predict.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "segcore/data/dataset.hpp"

namespace seg {

/// A model by its name, with the folder of the class ids that it predicted.
using ModelPredictions = std::pair<std::string, std::string>;

/// Draws images spread over a data set: the image, its truth and what each model predicts, four a
/// row. \return the number of pictures in the folder. \throws FileError, DataError
size_t draw_ensemble_pictures(const std::string& folder, const Dataset& dataset,
                              const std::vector<ModelPredictions>& models, size_t count);

}  // namespace seg
