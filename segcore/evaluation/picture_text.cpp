#include "segcore/evaluation/picture_text.hpp"

#include <algorithm>
#include <opencv2/imgproc.hpp>

namespace seg {
namespace {

constexpr int kPictureFont = cv::FONT_HERSHEY_SIMPLEX;

bool is_ascii(char c) {
  return static_cast<unsigned char>(c) >= 32 && static_cast<unsigned char>(c) < 127;
}

std::string picture_ascii(std::string words) {
  std::replace_if(
      words.begin(), words.end(), [](char c) { return !is_ascii(c); }, '?');
  return words;
}

int picture_stroke(double scale) { return std::max(1, cvRound(scale * 1.4)); }

}  // namespace

int picture_text_width(const std::string& words, double scale) {
  int baseline = 0;
  return cv::getTextSize(picture_ascii(words), kPictureFont, scale, picture_stroke(scale),
                         &baseline)
      .width;
}

void draw_picture_text(cv::Mat& picture, const std::string& words, cv::Point at, double scale,
                       const cv::Scalar& ink) {
  cv::putText(picture, picture_ascii(words), at, kPictureFont, scale, ink, picture_stroke(scale),
              cv::LINE_AA);
}

std::string fit_picture_text(const std::string& words, double scale, int width) {
  if (picture_text_width(words, scale) <= width) return words;
  // The end of a path tells more than its beginning.
  for (size_t kept = words.size(); kept-- > 1;) {
    const size_t head = kept / 3;
    const std::string cut =
        words.substr(0, head) + "..." + words.substr(words.size() - (kept - head));
    if (picture_text_width(cut, scale) <= width) return cut;
  }
  return "";
}

std::string class_label(const std::vector<std::string>& classes, int64_t id) {
  const auto i = static_cast<size_t>(id);
  const bool shown = i < classes.size() && !classes[i].empty() &&
                     std::all_of(classes[i].begin(), classes[i].end(), is_ascii);
  return shown ? classes[i] : "class " + std::to_string(id);
}

}  // namespace seg
