/// Pictures for people: class maps in colour, over an image, side by side.
#pragma once
#include <ATen/core/Tensor.h>

#include <opencv2/core/mat.hpp>
#include <string>
#include <vector>

#include "segcore/data/palette.hpp"

namespace seg {

/// An image of any type and number of bands as 8-bit BGR: the first three bands, or one as grey.
/// Values of other types are stretched from their minimum to their maximum.
/// \param image  [H, W, bands]
cv::Mat displayable(const cv::Mat& image);
/// The same of [bands, H, W], three bands being BGR.
cv::Mat displayable(const at::Tensor& image);

/// \param ids  integers [H, W]; those outside the palette are black.
/// \return BGR
cv::Mat colour_map(const at::Tensor& ids, const Palette& palette);
/// The colours over the image; pixels outside the palette show only the image. The ids are resized
/// to the image.
/// \param image    BGR
/// \param opacity  of the colours, 0 to 1.
cv::Mat overlay(const cv::Mat& image, const at::Tensor& ids, const Palette& palette,
                double opacity);
/// From left to right with thin white lines between, all resized to the height of the first.
cv::Mat side_by_side(const std::vector<cv::Mat>& pictures);

/// Writes class ids as a PNG whose palette shows them in the colours of their classes; readers of
/// indices get the ids. Grey with 16 bits where 8 are too few.
/// \param one_up  adds one, for data sets whose files have 0 for "no class" (reduce_zero_label).
void write_class_ids(const std::string& path, const at::Tensor& ids, bool one_up,
                     const Palette& palette);

}  // namespace seg
