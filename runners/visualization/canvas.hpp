/// What plots are drawn on: a picture of pixels, or an SVG file.
#pragma once
#include <array>
#include <memory>
#include <opencv2/core/mat.hpp>
#include <string>
#include <vector>

namespace seg {

/// RGB, 0 to 255.
using InkColour = std::array<int, 3>;

/// The colour mixed with white; 1 is the colour itself.
InkColour faint(const InkColour& colour, double strength);

struct Ink {
  InkColour colour{50, 50, 50};
  double width = 1;
  bool dashed = false;
};

enum class Align { kLeft, kMiddle, kRight };

/// A white area. Coordinates are pixels from the upper left corner.
class Canvas {
 public:
  Canvas(int width, int height) : width_(width), height_(height) {}
  virtual ~Canvas() = default;
  int width() const { return width_; }
  int height() const { return height_; }

  virtual void line(const std::vector<cv::Point2d>& points, const Ink& ink) = 0;
  /// \param edge  a rim of this colour, 1.5 pixels wide.
  virtual void disc(cv::Point2d centre, double radius, const InkColour& fill,
                    const InkColour& edge) = 0;
  virtual void frame(const cv::Rect2d& box, const Ink& ink) = 0;
  /// \param at  on the base line. \param size  height of a line in pixels.
  virtual void text(cv::Point2d at, const std::string& words, double size, Align align,
                    const InkColour& colour) = 0;
  /// About as wide as `text` writes them.
  double text_width(const std::string& words, double size) const;
  /// Encodes the picture by the suffix of the path, and writes the file whole.
  virtual void write(const std::string& path) const = 0;

 private:
  int width_, height_;
};

/// Pixels: BGR, 8 bits.
class RasterCanvas final : public Canvas {
 public:
  RasterCanvas(int width, int height);
  void line(const std::vector<cv::Point2d>& points, const Ink& ink) override;
  void disc(cv::Point2d centre, double radius, const InkColour& fill,
            const InkColour& edge) override;
  void frame(const cv::Rect2d& box, const Ink& ink) override;
  void text(cv::Point2d at, const std::string& words, double size, Align align,
            const InkColour& colour) override;
  void write(const std::string& path) const override;
  const cv::Mat& pixels() const { return pixels_; }

 private:
  cv::Mat pixels_;
};

/// An SVG document without outside references.
class SvgCanvas final : public Canvas {
 public:
  using Canvas::Canvas;
  void line(const std::vector<cv::Point2d>& points, const Ink& ink) override;
  void disc(cv::Point2d centre, double radius, const InkColour& fill,
            const InkColour& edge) override;
  void frame(const cv::Rect2d& box, const Ink& ink) override;
  void text(cv::Point2d at, const std::string& words, double size, Align align,
            const InkColour& colour) override;
  void write(const std::string& path) const override;
  std::string document() const;

 private:
  std::string body_;
};

/// An SVG canvas for paths that end in .svg, else one of pixels.
std::unique_ptr<Canvas> canvas_for(const std::string& path, int width, int height);

}  // namespace seg
