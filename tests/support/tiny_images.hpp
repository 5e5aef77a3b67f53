/// Small pictures and data sets of files, made on the spot.
#pragma once
#include <cstdint>
#include <opencv2/core.hpp>
#include <string>

#include "segcore/image/image_io.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg::test {

/// Values that differ from pixel to pixel and from image to image.
inline cv::Mat tiny_image(int height, int width, int number) {
  cv::Mat image(height, width, CV_8UC3);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      image.at<cv::Vec3b>(y, x) = {static_cast<uint8_t>(number), static_cast<uint8_t>(y * 7 + x),
                                   static_cast<uint8_t>(x * 5 + number)};
    }
  }
  return image;
}

/// Stripes of the classes 0 to `classes` - 1.
inline cv::Mat tiny_labels(int height, int width, int classes) {
  cv::Mat labels(height, width, CV_8UC1);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      labels.at<uint8_t>(y, x) = static_cast<uint8_t>((x + y / 2) % classes);
    }
  }
  return labels;
}

/// img/<number>.png and ann/<number>.png below the folder, numbers of two digits.
inline void write_tiny_dataset(const TempDir& dir, int count, int classes = 3, int height = 10,
                               int width = 12) {
  for (int i = 0; i < count; ++i) {
    const std::string name = (i < 10 ? "0" : "") + std::to_string(i) + ".png";
    write_png(dir / ("img/" + name), tiny_image(height, width, i));
    write_png(dir / ("ann/" + name), tiny_labels(height, width, classes));
  }
}

/// A data set of these files, with five classes, for programs that run in the folder.
/// \param steps  of the pipeline, after the image is loaded.
inline std::string tiny_dataset_yaml(
    const std::string& steps = "{type: LoadAnnotations}, {type: PackSegInputs}") {
  return "{_delete_: true, type: BaseSegDataset, data_prefix: {img_path: img, seg_map_path: ann}, "
         "img_suffix: .png, metainfo: {classes: [background, disc, square, triangle, ring]}, "
         "pipeline: [{type: LoadImageFromFile}, " +
         steps + "]}";
}

/// A step that gives each image as it is and mirrored, with its labels.
inline std::string tiny_flips_yaml() {
  return "{type: TestTimeAug, transforms: [[{type: RandomFlip, prob: 0.0}, {type: RandomFlip, "
         "prob: 1.0}], [{type: LoadAnnotations}], [{type: PackSegInputs}]]}";
}

}  // namespace seg::test
