/// The labels of a batch, known without asking a GPU.
#pragma once
#include <cstdint>
#include <vector>

namespace seg {

/// The labels that a loss takes: those in [0, count), and what it ignores.
struct LabelBounds {
  int64_t count = 0;
  int64_t ignore_index = 255;
  bool below_zero_ignored = false;  ///< negative labels count as ignored
  bool fits(int64_t label) const {
    return (label >= 0 && label < count) || label == ignore_index ||
           (label < 0 && below_zero_ignored);
  }
};

/// Whether all labels are known, and within all bounds.
/// \param values  of each image the labels that it has, and perhaps others; empty: not known.
bool all_fit(const std::vector<std::vector<int64_t>>& values,
             const std::vector<LabelBounds>& bounds);

/// While one lives, losses of this thread look for wrong labels here, in place of reading them back
/// from a GPU.
class KnownLabels {
 public:
  /// \param values  of each image the labels that it has, and perhaps others; empty: not known.
  ///                Outlives this.
  explicit KnownLabels(const std::vector<std::vector<int64_t>>& values);
  ~KnownLabels();
  KnownLabels(const KnownLabels&) = delete;
  KnownLabels& operator=(const KnownLabels&) = delete;

  /// Whether they are known, and each is within the bounds.
  static bool all_fit(const LabelBounds& bounds);

 private:
  const std::vector<std::vector<int64_t>>* outer_;
};

/// While one lives, notes what losses of this thread ask of labels.
class LabelChecks {
 public:
  LabelChecks();
  ~LabelChecks();
  LabelChecks(const LabelChecks&) = delete;
  LabelChecks& operator=(const LabelChecks&) = delete;
  const std::vector<LabelBounds>& bounds() const { return bounds_; }
  /// Of a loss that is about to check labels.
  static void note(const LabelBounds& bounds);

 private:
  std::vector<LabelBounds> bounds_;
  LabelChecks* outer_;
};

}  // namespace seg
