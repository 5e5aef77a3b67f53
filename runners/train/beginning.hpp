/// What a training begins from: a checkpoint to resume, given weights, or the config's own.
#pragma once
#include <optional>

#include "runners/checkpoint/find.hpp"
#include "runners/start/run_config.hpp"

namespace seg {

struct Beginning {
  std::optional<FoundCheckpoint> resumed;    ///< the state of a training
  std::optional<FoundCheckpoint> load_from;  ///< only weights
};

/// Reads the checkpoint that a config names, or finds the newest of its work dir.
/// \throws ConfigError with the line of `load_from` if that file is missing or damaged.
Beginning find_beginning(const RunConfig& config);

/// Loads the files of `init_cfg`, then `load_from`, which overrides them: files all of whose
/// weights it replaces are not read.
void load_initial_weights(Segmentor& model, const Beginning& beginning);

}  // namespace seg
