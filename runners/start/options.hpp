/// Options of the command line that change a config before it is read.
#pragma once
#include <optional>
#include <string>

#include "registry/config.hpp"
#include "segcore/data/palette.hpp"

namespace seg {

/// Options of tools/train besides the config.
struct TrainOptions {
  std::optional<std::string> work_dir;
  bool resume = false;
  std::optional<std::string> resume_from;  ///< a checkpoint; else the newest of the work dir
  bool reset_schedule = false;
  bool amp = false;
  std::optional<int64_t> global_batch;
  std::optional<std::string> launcher, device;
};

/// Options of tools/test besides the config.
struct TestOptions {
  std::optional<std::string> work_dir;
  std::optional<std::string> split;      ///< train or val: that data set in place of the test set
  std::optional<std::string> out;        ///< folder for <name>.png of class ids
  std::optional<std::string> show_dir;   ///< folder for pictures and their index.html
  std::optional<std::string> per_image;  ///< file for the scores of each image, .csv
  std::optional<std::string> confusion;  ///< file for the confusion matrix, .csv or a picture
  std::optional<std::string> out_probs;  ///< file for probabilities, .safetensors
  std::optional<double> opacity;         ///< of the colours in pictures, 0 to 1
  Palette palette;                       ///< of `--palette`; empty: as the config has it
  bool tta = false;
  std::optional<std::string> launcher, device;
};

/// Where a run computes, of `--device`; not given: as the config says.
void set_device(Config& tree, const std::optional<std::string>& device);

/// Writes the options into the resolved tree of a config, before it is read and checked.
/// \throws ConfigError where the config does not support them.
void apply_options(Config& tree, const TrainOptions& options);
void apply_options(Config& tree, const TestOptions& options);

}  // namespace seg
