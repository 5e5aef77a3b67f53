#include "segcore/data/sample_picture.hpp"

namespace seg {

cv::Mat read_sample_image(const Sample& sample, const std::string& path, ImageFlag flag,
                          const ReadOptions& options) {
  const cv::Rect& window = sample.meta.window;
  if (!window.empty()) return read_image_window(path, window, flag, options);
  return decode_image(read_sample_file(sample, path), path, flag, options);
}

cv::Mat read_sample_image_in_file_order(const Sample& sample, const std::string& path,
                                        const ReadOptions& options) {
  const cv::Rect& window = sample.meta.window;
  if (!window.empty()) return read_image_window_in_file_order(path, window, options);
  return decode_image_in_file_order(read_sample_file(sample, path), path, options);
}

cv::Mat read_sample_labels(const Sample& sample, const std::string& path,
                           const ReadOptions& options, cv::Mat* missing) {
  const cv::Rect& window = sample.meta.window;
  if (!window.empty()) return read_labels_window(path, window, options, missing);
  return decode_labels(read_sample_file(sample, path), path, options, missing);
}

}  // namespace seg
