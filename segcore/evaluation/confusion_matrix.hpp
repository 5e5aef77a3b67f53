/// Which classes are taken for which.
#pragma once
#include <ATen/core/Tensor.h>

#include <opencv2/core/mat.hpp>
#include <string>
#include <vector>

#include "segcore/dist/communicator.hpp"

namespace seg {

/// Counts the pixels of each pair of a true and a predicted class.
class ConfusionMatrix {
 public:
  explicit ConfusionMatrix(int64_t classes) : classes_(classes) {}
  /// Pixels whose label is ignored or no class are left out.
  /// \param prediction, labels  integers [H, W], on any device.
  void add(const at::Tensor& prediction, const at::Tensor& labels, int64_t ignore_index);
  /// Over all processes: int64 [truth, prediction], on the CPU. Collective.
  at::Tensor gather(Communicator& communicator) const;

 private:
  int64_t classes_;
  at::Tensor counts_;  ///< int64 [classes * classes]; undefined before the first image
};

/// Pixels; the first column names the true class of a row.
std::string confusion_csv(const at::Tensor& counts, const std::vector<std::string>& classes);

/// Rows are true classes, each in percent of its pixels; BGR.
cv::Mat confusion_picture(const at::Tensor& counts, const std::vector<std::string>& classes);

}  // namespace seg
