/// The file of a sweep as C++ types.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "registry/schema.hpp"
#include "runners/sweep/space.hpp"

namespace seg {

/// No run is started or promoted once one of them is reached; those that are running end.
struct SweepBudget {
  std::optional<int64_t> iterations, runs;
  std::optional<double> hours;
  static Schema<SweepBudget> schema();
};

/// Asynchronous successive halving.
struct AshaParams {
  int64_t grace = 0;
  int64_t eta = 3;
  static Schema<AshaParams> schema();
};

/// The top level of a sweep's file, read and checked.
struct SweepSpec {
  OneOrMany<std::string> base;
  SweepSpace space;
  std::string method = "grid";
  std::optional<int64_t> trials;
  int64_t seed = 0;
  std::vector<int64_t> seeds;
  std::string metric = "mIoU";
  std::optional<std::string> rule;
  SweepBudget budget;
  AshaParams asha;
  std::string engine = "local";
  std::optional<int64_t> parallel;
  int64_t gpus_per_run = 1;
  std::optional<std::string> program;
  std::vector<std::string> train_args;
  std::map<std::string, std::string> sbatch;

  /// The resolved tree; paths in `base` and `program` are absolute.
  Config tree;
  static Schema<SweepSpec> schema();

  bool uses_asha() const { return method == "asha"; }
  /// Whether the highest value of the metric is the best.
  bool greater_is_better() const;
};

/// Resolves, reads and checks the file of a sweep. Relative paths of configs are those of the file
/// that names them.
/// \throws ConfigError with every error found.
SweepSpec load_sweep(const std::string& path, const std::vector<std::string>& overrides = {});

/// The same of a sweep that a file of something larger holds. Notes what is wrong.
/// \param option  that it is the value of.
SweepSpec read_sweep(Config tree, const std::string& option, Diagnostics& problems);

/// Documentation of the top-level keys, for tools/schema.
std::vector<OptionDoc> sweep_docs();

}  // namespace seg
