/// Text in pictures, in OpenCV's font, which has ASCII only.
#pragma once
#include <opencv2/core/mat.hpp>
#include <string>
#include <vector>

namespace seg {

inline const cv::Scalar kPictureInk(45, 45, 45);

/// \param scale  1 is a line of 30 pixels.
int picture_text_width(const std::string& words, double scale);
/// \param at  the left end of the base line.
void draw_picture_text(cv::Mat& picture, const std::string& words, cv::Point at, double scale,
                       const cv::Scalar& ink = kPictureInk);
/// The words, cut in the middle with dots where they are wider than `width` pixels.
std::string fit_picture_text(const std::string& words, double scale, int width);
/// The name of a class, or "class 3" where it has none or one that the font cannot show.
std::string class_label(const std::vector<std::string>& classes, int64_t id);

}  // namespace seg
