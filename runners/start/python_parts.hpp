/// What a configuration leaves to Python modules of its own.
#pragma once
#include <string>

#include "registry/config.hpp"

namespace seg {

/// Turns data sets whose types are classes of the user's own Python files into data sets of ours:
/// nearly all such classes set METAINFO, suffixes and `reduce_zero_label` and nothing else. The
/// files are those of `custom_imports`, those beside the config and those of a copy of
/// MMSegmentation around it; they are read, and nothing of them is run. A class that does more is
/// an error that names what it does. Other modules of `custom_imports` are warned of, because they
/// have no effect; so are trackers (Weights & Biases, MLflow, ...) among the back ends of the
/// visualizer, which are left out. An optimizer that shares out its state gives place to the one
/// that it wraps.
/// \param path  of the config.
void replace_python_parts(Config& tree, const std::string& path, Diagnostics& problems);

}  // namespace seg
