/// How well each single image is predicted.
#pragma once
#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "segcore/data/dataset.hpp"
#include "segcore/dist/communicator.hpp"

namespace seg {

/// The overlap of prediction and truth in one image, as shares of 1.
struct ImageScore {
  /// NaN for classes that neither the truth nor the prediction has.
  std::vector<double> iou;
  double mean_iou = 0;  ///< over the other classes; NaN where all pixels are ignored
  double accuracy = 0;  ///< share of the pixels that are right; NaN likewise
};

/// \param counts  of class_histogram: int64 [3, classes + 1], on the CPU.
ImageScore image_score(const at::Tensor& counts);

/// One image of a data set with its score.
struct ScoredImage {
  size_t index = 0;  ///< into the data set
  std::string path;
  ImageScore score;
};

/// Collects the scores of a data set's images over all processes.
class ImageScores {
 public:
  /// \param images  size of the data set.
  ImageScores(size_t images, int64_t classes);
  /// \param counts  of class_histogram, on any device.
  void add(size_t index, const at::Tensor& counts);
  /// Those that were added in any process, in the order of the data set. Collective.
  std::vector<ScoredImage> gather(const Dataset& dataset, Communicator& communicator) const;

 private:
  at::Tensor counts_;  ///< int64 [images, 3, classes + 1]
  at::Tensor seen_;    ///< int64 [images]; an image that fills up the last batch comes twice
};

/// "image,mIoU,aAcc,IoU.road,...": a row an image, in percent with two decimals; empty where a
/// value is not defined.
std::string scores_csv(const std::vector<ScoredImage>& images,
                       const std::vector<std::string>& classes);

/// A page of pictures, lowest mIoU first, that needs no other file than they.
/// \param title  of the page.
/// \param pictures  paths relative to the page, one for each image.
std::string scores_page(const std::string& title, const std::vector<ScoredImage>& images,
                        const std::vector<std::string>& pictures,
                        const std::vector<std::string>& classes);

}  // namespace seg
