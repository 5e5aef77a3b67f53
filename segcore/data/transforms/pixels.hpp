/// What several transforms need to know of an image.
#pragma once
#include <array>
#include <opencv2/core/mat.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "segcore/data/sample.hpp"

namespace seg {

/// Makes `mat` the only owner of its pixels, so that they can be changed in place: copies of a
/// sample (test-time augmentation) and images that a data set keeps share theirs.
void make_unique(cv::Mat& mat);

/// "3 bands of uint8"
std::string pixel_text(const cv::Mat& image);

/// The file of the sample, for messages.
const std::string& sample_name(const Sample& sample);

/// \throws DataError where there is no image: the pipeline lacks a step that loads it.
void require_image(const Sample& sample, std::string_view transform);

/// As require_image, for steps that plan.
void require_planned_image(const Sample& sample, std::string_view transform);

/// The image's size after what is planned. \throws DataError as require_image.
cv::Size planned_size(const Sample& sample, std::string_view transform);

enum class PictureKind { kImage, kDepth, kLabels };

/// Calls `plan(geometry, size, kind)` for both images, depth and labels, where they are there, with
/// the size after what is planned. \throws DataError as require_image.
template <class Plan>
void plan_pictures(Sample& sample, std::string_view transform, const Plan& plan) {
  PlannedGeometry& planned = sample.planned;
  plan(planned.image, planned_size(sample, transform), PictureKind::kImage);
  const auto plan_other = [&](const cv::Mat& pixels, Geometry& geometry, PictureKind kind) {
    if (!pixels.empty()) plan(geometry, geometry.size(pixels.size()), kind);
  };
  plan_other(sample.image2, planned.image2, PictureKind::kImage);
  plan_other(sample.depth, planned.depth, PictureKind::kDepth);
  plan_other(sample.labels, planned.labels, PictureKind::kLabels);
}

/// \throws DataError where the image is not of uint8.
void require_bytes(const Sample& sample, std::string_view transform);

/// Replaces each byte v by table[v].
void apply_table(cv::Mat& bytes, const std::array<uint8_t, 256>& table);

/// All pixels of a rectangle become `values`: one for all bands, or one for each.
/// \throws DataError where their number is another.
void fill_rect(cv::Mat& image, const cv::Rect& rect, const std::vector<double>& values,
               std::string_view transform);

}  // namespace seg
