/// The file of an ensemble as C++ types.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "runners/sweep/spec.hpp"

namespace seg {

/// The top level of an ensemble's file, read and checked.
struct EnsembleSpec {
  SweepSpec members;              ///< the base models
  std::optional<SweepSpec> meta;  ///< those that learn from the predictions of the members
  std::vector<double> weights;    ///< of the weighted mean; empty: the members' metrics
  std::vector<std::string> test_args;
  int64_t pictures = 8;
};

/// Resolves, reads and checks the file of an ensemble. Relative paths of configs are those of the
/// file that names them.
/// \throws ConfigError with every error found.
EnsembleSpec load_ensemble(const std::string& path, const std::vector<std::string>& overrides = {});

/// Documentation of the top-level keys, for tools/schema.
std::vector<OptionDoc> ensemble_docs();

}  // namespace seg
