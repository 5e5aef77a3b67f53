/// Converts the weights of another repository: other names, and the few layouts that differ.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "registry/schema.hpp"
#include "segcore/io/value.hpp"

namespace seg {

/// A change of one tensor's layout.
struct WeightStep {
  std::optional<std::vector<int64_t>> reshape, permute, take;
  int64_t dim = 0;
  static Schema<WeightStep> schema();
};

/// Applies to the tensors whose name contains `match`. Every tensor passes a rule before the next
/// rule starts. In `name`, `join` and `split`, $1 is the first group of `match` and {$1-1} a sum,
/// for stages that are counted from 1.
struct WeightRule {
  std::string match;
  std::optional<std::string> name;
  bool drop = false;
  std::optional<std::vector<std::string>> join, split;
  std::optional<std::vector<int64_t>> parts;
  std::optional<std::vector<WeightStep>> steps;
  Origin origin;  ///< where the rule was written
  static Schema<WeightRule> schema();
};

/// The rules of a file of configs/weights/:
///
///   summary: NVlabs' SegFormer to MixVisionTransformer
///   rules:
///   - {match: '^head\.', drop: true}
///   - {match: '^patch_embed(\d)\.proj\.', name: 'layers.{$1-1}.0.projection.'}
///   keeps: ['^stem\.']           # names that are the model's already
///   absent: ['^norm[0-3]\.']      # what the original has not, so that it may be missing
class WeightMap {
 public:
  /// \throws ConfigError with the file and line of every error.
  explicit WeightMap(const std::string& path);

  /// Regular expressions of weights that the original lacks.
  const std::vector<std::string>& absent() const { return absent_; }
  /// Whether a rule fits a name as the original has it.
  bool fits(const std::string& name) const;
  /// \param state  dict of name -> tensor
  /// \return a new dict, whose tensors share memory with the old where they can
  /// \throws CheckpointError naming the rule and the tensor: no rule fits any name, or most names
  ///         stay as they were without being among `keeps`, a part of a join is missing, two
  ///         tensors get one name, a shape cannot be changed so.
  Value apply(const Value& state) const;

 private:
  std::string path_;
  std::vector<WeightRule> rules_;
  std::vector<std::string> keeps_, absent_;
};

}  // namespace seg
