/// Ensembles in configs: their members are configs of their own, with weights of their own.
#pragma once
#include <string>

#include "registry/config.hpp"
#include "segcore/io/value.hpp"

namespace seg {

/// In a config whose model is an EnsembleSegmentor, replaces the `config` of each member by the
/// `model` of that config. Paths of `config` and `checkpoint` are made relative to the file that
/// names them. What is wrong is reported with its line.
void expand_ensemble(Config& tree, Diagnostics& problems);

/// The weights that a command line names: a checkpoint, or "members" for an ensemble, whose members
/// have checkpoints in the config; in a folder, that is its best one, else its newest.
/// \throws DataError where the config names none. \throws CheckpointError
Value weights_of_command(const Config& tree, const std::string& checkpoint);

}  // namespace seg
