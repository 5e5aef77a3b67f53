/// The pictures of a sample's files: whole, or the window that the sample is of.
#pragma once
#include <opencv2/core/mat.hpp>
#include <string>

#include "segcore/data/sample.hpp"
#include "segcore/image/image_io.hpp"

namespace seg {

/// An image, or a source that parts of it can be read from.
struct LoadedImage {
  cv::Mat pixels;
  std::shared_ptr<const ImageSource> source;
};
/// `read_sample_image` of a whole file, which may wait.
LoadedImage open_sample_image(const Sample& sample, const std::string& path, ImageFlag flag,
                              const ReadOptions& options);

/// As decode_image, decode_image_in_file_order and decode_labels.
cv::Mat read_sample_image(const Sample& sample, const std::string& path, ImageFlag flag,
                          const ReadOptions& options);
cv::Mat read_sample_image_in_file_order(const Sample& sample, const std::string& path,
                                        const ReadOptions& options);
cv::Mat read_sample_labels(const Sample& sample, const std::string& path,
                           const ReadOptions& options, cv::Mat* missing = nullptr);

}  // namespace seg
