/// The lists of classes that training, evaluations and checkpoints bring: they must agree, or
/// labels and results stand under wrong names.
#pragma once
#include <string>
#include <vector>

#include "runners/start/run_config.hpp"
#include "segcore/io/value.hpp"

namespace seg {

/// Reports heads with fewer classes than a data set has, warns of those with more, and reports data
/// sets of validations and tests whose classes are not those of training.
/// \param trains  whether the run trains: else data for training that have more classes than the
///                model and the data for tests are only warned of.
void check_classes(const RunConfig& config, bool trains, Diagnostics& problems);

/// Names of the classes that a checkpoint was trained with (`meta.dataset_meta.classes`, or
/// `meta.CLASSES` of MMSegmentation 0.x); empty where it does not say.
std::vector<std::string> saved_classes(const Value& checkpoint);

/// Compares the classes of a data set with those that a checkpoint was trained with
/// (`saved_classes`). Another number of classes is no difference: it shows in the weights.
/// \param path  of the checkpoint, for the message.
/// \throws ConfigError at the data set's classes.
void check_saved_classes(const Spec<Dataset>& dataset, const Value& checkpoint,
                         const std::string& path);
/// The same for a training that starts from the checkpoint: a warning, and for `load_from` only
/// where the same classes are in another order, because the weights may be wanted for other ones.
/// \throws ConfigError where a training is resumed with the same classes in another order.
void check_saved_classes_of_training(const RunConfig& config, const Value& checkpoint,
                                     const std::string& path, bool resumed);

}  // namespace seg
