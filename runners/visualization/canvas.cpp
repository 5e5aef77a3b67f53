#include "runners/visualization/canvas.hpp"

#include <algorithm>
#include <cmath>
#include <opencv2/imgproc.hpp>

#include "registry/printed.hpp"
#include "registry/text.hpp"
#include "segcore/image/image_io.hpp"
#include "segcore/io/atomic_file.hpp"

namespace seg {
namespace {

constexpr int kCanvasFont = cv::FONT_HERSHEY_SIMPLEX;
/// OpenCV's font at scale 1 is about as high as a line of 30 pixels.
constexpr double kFontLine = 30;
constexpr int kSubpixels = 4;  ///< bits: OpenCV draws to sixteenths of a pixel

cv::Scalar bgr(const InkColour& c) { return {double(c[2]), double(c[1]), double(c[0])}; }

/// OpenCV's font has ASCII only.
std::string canvas_ascii(std::string words) {
  for (char& c : words) {
    if (static_cast<unsigned char>(c) < 32 || static_cast<unsigned char>(c) > 126) c = '?';
  }
  return words;
}

cv::Point subpixels(cv::Point2d p) {
  return {cvRound(p.x * (1 << kSubpixels)), cvRound(p.y * (1 << kSubpixels))};
}

/// The line in pieces of 5 pixels with gaps of 4 between.
void dashed_line(cv::Mat& image, cv::Point2d from, cv::Point2d to, const Ink& ink) {
  constexpr double kOn = 5, kPeriod = 9;
  const double length = std::hypot(to.x - from.x, to.y - from.y);
  for (double at = 0; at < length; at += kPeriod) {
    const auto place = [&](double t) { return from + (to - from) * (t / length); };
    cv::line(image, subpixels(place(at)), subpixels(place(std::min(length, at + kOn))),
             bgr(ink.colour), cvRound(ink.width), cv::LINE_AA, kSubpixels);
  }
}

std::string svg_number(double v) {
  std::string out = printed("%.1f", v);
  if (out.ends_with(".0")) out.resize(out.size() - 2);
  return out;
}

std::string svg_colour(const InkColour& c) {
  return printed("#%02x%02x%02x", c[0] & 255, c[1] & 255, c[2] & 255);
}

std::string svg_text(const std::string& words) {
  std::string out;
  for (const char c : words) {
    if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (static_cast<unsigned char>(c) >= 32) {
      out += c;
    }
  }
  return out;
}

std::string svg_ink(const Ink& ink) {
  return text(" fill=\"none\" stroke=\"", svg_colour(ink.colour), "\" stroke-width=\"",
              svg_number(ink.width), "\"", ink.dashed ? " stroke-dasharray=\"5 4\"" : "");
}

}  // namespace

InkColour faint(const InkColour& colour, double strength) {
  InkColour out;
  for (size_t i = 0; i < 3; ++i) out[i] = cvRound(255 + (colour[i] - 255) * strength);
  return out;
}

double Canvas::text_width(const std::string& words, double size) const {
  int baseline = 0;
  return cv::getTextSize(canvas_ascii(words), kCanvasFont, size / kFontLine, 1, &baseline).width;
}

RasterCanvas::RasterCanvas(int width, int height)
    : Canvas(width, height), pixels_(height, width, CV_8UC3, cv::Scalar::all(255)) {}

void RasterCanvas::line(const std::vector<cv::Point2d>& points, const Ink& ink) {
  for (size_t i = 1; i < points.size(); ++i) {
    if (ink.dashed) {
      dashed_line(pixels_, points[i - 1], points[i], ink);
    } else {
      cv::line(pixels_, subpixels(points[i - 1]), subpixels(points[i]), bgr(ink.colour),
               std::max(1, cvRound(ink.width)), cv::LINE_AA, kSubpixels);
    }
  }
}

void RasterCanvas::disc(cv::Point2d centre, double radius, const InkColour& fill,
                        const InkColour& edge) {
  const auto round = [&](double r, const InkColour& colour) {
    cv::circle(pixels_, subpixels(centre), cvRound(r * (1 << kSubpixels)), bgr(colour), cv::FILLED,
               cv::LINE_AA, kSubpixels);
  };
  round(radius + 0.75, edge);
  round(radius - 0.75, fill);
}

void RasterCanvas::frame(const cv::Rect2d& box, const Ink& ink) {
  cv::rectangle(pixels_,
                cv::Rect(cvRound(box.x), cvRound(box.y), cvRound(box.width), cvRound(box.height)),
                bgr(ink.colour), std::max(1, cvRound(ink.width)));
}

void RasterCanvas::text(cv::Point2d at, const std::string& words, double size, Align align,
                        const InkColour& colour) {
  const double width = text_width(words, size);
  const double left = align == Align::kLeft ? 0 : align == Align::kMiddle ? width / 2 : width;
  cv::putText(pixels_, canvas_ascii(words), cv::Point(cvRound(at.x - left), cvRound(at.y)),
              kCanvasFont, size / kFontLine, bgr(colour), 1, cv::LINE_AA);
}

void RasterCanvas::write(const std::string& path) const { write_image(path, pixels_); }

void SvgCanvas::line(const std::vector<cv::Point2d>& points, const Ink& ink) {
  if (points.size() < 2) return;
  body_ += "<polyline points=\"";
  for (size_t i = 0; i < points.size(); ++i) {
    body_ += (i > 0 ? " " : "") + svg_number(points[i].x) + "," + svg_number(points[i].y);
  }
  body_ += "\" stroke-linejoin=\"round\"" + svg_ink(ink) + "/>\n";
}

void SvgCanvas::disc(cv::Point2d centre, double radius, const InkColour& fill,
                     const InkColour& edge) {
  body_ += "<circle cx=\"" + svg_number(centre.x) + "\" cy=\"" + svg_number(centre.y) + "\" r=\"" +
           svg_number(radius) + "\" fill=\"" + svg_colour(fill) + "\" stroke=\"" +
           svg_colour(edge) + "\" stroke-width=\"1.5\"/>\n";
}

void SvgCanvas::frame(const cv::Rect2d& box, const Ink& ink) {
  body_ += "<rect x=\"" + svg_number(box.x) + "\" y=\"" + svg_number(box.y) + "\" width=\"" +
           svg_number(box.width) + "\" height=\"" + svg_number(box.height) + "\"" + svg_ink(ink) +
           "/>\n";
}

void SvgCanvas::text(cv::Point2d at, const std::string& words, double size, Align align,
                     const InkColour& colour) {
  const char* anchor = align == Align::kLeft ? "start" : align == Align::kMiddle ? "middle" : "end";
  body_ += "<text x=\"" + svg_number(at.x) + "\" y=\"" + svg_number(at.y) + "\" font-size=\"" +
           svg_number(size) + "\" text-anchor=\"" + anchor + "\" fill=\"" + svg_colour(colour) +
           "\">" + svg_text(words) + "</text>\n";
}

std::string SvgCanvas::document() const {
  const std::string size = seg::text("width=\"", width(), "\" height=\"", height(), "\"");
  return seg::text("<svg xmlns=\"http://www.w3.org/2000/svg\" ", size, " viewBox=\"0 0 ", width(),
                   " ", height(), "\" font-family=\"Helvetica, Arial, sans-serif\">\n<rect ", size,
                   " fill=\"#ffffff\"/>\n", body_, "</svg>\n");
}

void SvgCanvas::write(const std::string& path) const { write_file_atomically(path, document()); }

std::unique_ptr<Canvas> canvas_for(const std::string& path, int width, int height) {
  if (path.ends_with(".svg") || path.ends_with(".SVG")) {
    return std::make_unique<SvgCanvas>(width, height);
  }
  return std::make_unique<RasterCanvas>(width, height);
}

}  // namespace seg
