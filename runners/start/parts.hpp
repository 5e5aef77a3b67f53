/// The parts of a run that can be built, and checked, before processes are joined and folders made.
#pragma once
#include <c10/core/Device.h>

#include <memory>
#include <optional>
#include <vector>

#include "runners/start/processes.hpp"
#include "runners/start/run_config.hpp"

namespace seg {

/// A data set with its metrics.
struct EvaluationParts {
  std::shared_ptr<const Dataset> dataset;
  std::unique_ptr<DataLoader> loader;  ///< null in a check, and where it cannot be built
  std::vector<std::unique_ptr<Metric>> metrics;
  bool fp16 = false;
};

struct RunParts {
  std::shared_ptr<Segmentor> model;  ///< initialised, on the device
  std::shared_ptr<const Dataset> train_dataset;
  std::unique_ptr<DataLoader> train_loader;  ///< null in a check; its seed is not yet the run's
  std::optional<EvaluationParts> val, test;
  std::unique_ptr<TrainLength> length;
  ScheduleLength schedule_length;
  std::unique_ptr<OptimWrapper> optimizer;
  std::vector<std::unique_ptr<ParamScheduler>> schedulers;
  Hooks hooks;
};

/// Which parts a program needs, and where it runs.
struct PartsWanted {
  bool train = false;  ///< with validation, where the configuration has one
  bool test = false;
  /// Builds everything that the configuration names, but reads no data.
  bool check = false;
  LaunchPlace place;
  c10::Device device = c10::kCPU;
};

/// Builds them. Random numbers are drawn by the model alone.
/// \throws ConfigError with all that is wrong with any of them.
RunParts build_parts(const RunConfig& config, const PartsWanted& wanted);

/// Builds everything that the configuration names and reads no data, for
/// `tools/print_config --check`.
/// \throws ConfigError with all that is wrong.
void build_all(const RunConfig& config);

/// The visualizer of a configuration, or MMEngine's where it names none. Its files are made when
/// something is recorded.
std::unique_ptr<Visualizer> build_visualizer(const RunConfig& config, const VisPlace& place);

}  // namespace seg
