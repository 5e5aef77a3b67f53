/// Two-stage ensembles: base models are trained, their probabilities stored, meta models trained on
/// those, and all compared on the test set.
#pragma once
#include <optional>
#include <string>
#include <vector>

namespace seg {

struct EnsembleOptions {
  std::optional<std::string> work_dir;  ///< else ./work_dirs/<name of the file>
  std::vector<std::string> overrides;   ///< of the ensemble's file
};

/// What a start would run, a line a run.
/// \throws ConfigError with the errors of all runs.
std::string ensemble_listing(const std::string& path, const EnsembleOptions& options);

/// Goes through the stages, of which those that were done before are not done again. The folder has
///
///   members/, meta/       sweeps: a run a model
///   predictions/<member>/ train.safetensors, val.safetensors, test.safetensors
///   configs/              of the means
///   tests/<model>/<split> work dirs of tests
///   table.txt .md .csv    what the models reach on the test set
///   pictures/             what they predict
///
/// Under `engine: slurm` a stage is submitted, and the next start goes on when its runs ended.
/// \return 0, or 1 if a training failed.
/// \throws RunEnded with 20 where a signal stopped it; ConfigError; DataError where another process
///         runs this ensemble, or a test failed.
int run_ensemble(const std::string& path, const EnsembleOptions& options);

}  // namespace seg
