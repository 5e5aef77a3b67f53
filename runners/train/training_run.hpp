/// Trains and tests what a configuration describes.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runners/start/run_config.hpp"

namespace seg {

/// What the command line of tools/train says besides the config.
struct TrainOptions {
  std::optional<std::string> work_dir;
  bool resume = false;
  std::optional<std::string>
      resume_from;  ///< a checkpoint; the newest of the work dir if not given
  bool amp = false;
  std::optional<std::string> launcher;
};

/// What the command line of tools/test says besides the config.
struct TestOptions {
  std::optional<std::string> work_dir;
  std::optional<std::string> out;       ///< folder for <stem>.png of class ids
  std::optional<std::string> show_dir;  ///< folder for pictures
  bool tta = false;
  std::optional<std::string> launcher;
};

/// Writes the options into the resolved tree of a config, before it is read and checked.
/// \throws ConfigError where the config does not go with them.
void apply_options(Config& tree, const TrainOptions& options);
void apply_options(Config& tree, const TestOptions& options);

/// Trains; the outputs are in the work dir.
/// \throws RunEnded with 20 after a signal, with 21 where the loss is not finite.
void run_training(const RunConfig& config);

/// Tests the weights of a checkpoint.
/// \return the metrics.
Scalars run_test(const RunConfig& config, const std::string& checkpoint,
                 const TestOptions& options = {});

/// Builds everything that the configuration names, and looks for no files of data: what
/// `tools/print_config --check` does.
/// \throws ConfigError with all that is wrong.
void build_all(const RunConfig& config);

}  // namespace seg
