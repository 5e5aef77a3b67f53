/// Regions of a picture: polygons and run lengths, as masks.
#pragma once
#include <cstdint>
#include <opencv2/core/mat.hpp>
#include <string>
#include <utility>
#include <vector>

namespace seg {

/// Corners (x, y) in pixels.
using Polygon = std::vector<std::pair<double, double>>;

/// Sets the pixels inside a polygon, its corners rounded to pixels and its outline included.
/// \param mask  uint8; 255 is set.
void fill_polygon(cv::Mat& mask, const Polygon& polygon);

/// Sets the pixels inside a polygon as pycocotools does: edges are walked at five times the
/// resolution, and a column changes where an edge crosses its middle.
void fill_coco_polygon(cv::Mat& mask, const Polygon& polygon);

/// Sets the pixels of run lengths, which alternate between outside and inside, column by column.
/// \return whether they are as many pixels as the mask has.
bool fill_runs(cv::Mat& mask, const std::vector<int64_t>& runs);

/// Run lengths from COCO's text: digits of 5 bits in letters from '0', each run after the second
/// as the difference to the run before the last. Nothing for a text that is none.
std::vector<int64_t> runs_of_text(const std::string& text);

}  // namespace seg
