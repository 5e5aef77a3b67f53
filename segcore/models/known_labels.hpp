/// The labels of a batch, known without asking a GPU.
#pragma once
#include <cstdint>
#include <vector>

namespace seg {

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

  /// Whether they are known, and each is in [0, count) or ignored.
  /// \param below_zero_ignored  negative labels count as ignored.
  static bool all_fit(int64_t count, int64_t ignore_index, bool below_zero_ignored);

 private:
  const std::vector<std::vector<int64_t>>* outer_;
};

}  // namespace seg
