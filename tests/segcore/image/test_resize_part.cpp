#include <gtest/gtest.h>

#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>
#include <random>

#include "segcore/image/resize_part.hpp"

namespace seg {
namespace {

class ResizePartTest : public ::testing::Test {
 protected:
  int between(int low, int high) {
    return low + static_cast<int>(random_() % static_cast<unsigned>(high - low + 1));
  }
  cv::Mat picture(int type) {
    cv::Mat out(between(1, 60), between(1, 60), type);
    cv::randu(out.reshape(1), 0, 256);
    return out;
  }
  ResizedPart part() {
    const cv::Size size(between(1, 150), between(1, 150));
    const int width = between(1, size.width), height = between(1, size.height);
    const cv::Rect rect(between(0, size.width - width), between(0, size.height - height), width,
                        height);
    return {size, rect, between(0, 1) == 1, between(0, 1) == 1};
  }
  /// All of it resized, then the part cut out and flipped.
  static cv::Mat in_steps(const cv::Mat& from, const ResizedPart& to, int interpolation) {
    cv::Mat out;
    cv::resize(from, out, to.size, 0, 0, interpolation);
    out = out(to.part).clone();
    if (to.flip_x) cv::flip(out, out, 1);
    if (to.flip_y) cv::flip(out, out, 0);
    return out;
  }

 private:
  std::mt19937 random_{3};
};

TEST_F(ResizePartTest, BilinearIsWhatOpenCvCutsOutOfTheWhole) {
  for (int i = 0; i < 400; ++i) {
    const cv::Mat whole = picture(CV_8UC(i % 4 == 0 ? between(1, 5) : 3));
    const ResizedPart to = part();
    if (is_averaged(whole.size(), to.size)) continue;
    const cv::Rect needed = needed_pixels(whole.size(), to);
    const cv::Mat out =
        resize_part_bilinear({whole(needed).clone(), whole.size(), needed.tl()}, to);
    const cv::Mat expected = in_steps(whole, to, cv::INTER_LINEAR);
    ASSERT_EQ(cv::norm(out.reshape(1), expected.reshape(1), cv::NORM_INF), 0)
        << whole.size() << " to " << to.size << ", " << to.part;
  }
}

TEST_F(ResizePartTest, NearestIsWhatOpenCvCutsOutOfTheWhole) {
  for (int i = 0; i < 400; ++i) {
    const int types[] = {CV_8UC1, CV_32SC1, CV_32FC1, CV_8UC3, CV_16UC(5)};
    const cv::Mat whole = picture(types[i % 5]);
    const ResizedPart to = part();
    const cv::Rect needed = needed_pixels_nearest(whole.size(), to);
    const cv::Mat out = resize_part_nearest({whole(needed).clone(), whole.size(), needed.tl()}, to);
    const cv::Mat expected = in_steps(whole, to, cv::INTER_NEAREST);
    ASSERT_EQ(cv::norm(out.reshape(1), expected.reshape(1), cv::NORM_INF), 0)
        << whole.size() << " to " << to.size << ", " << to.part;
  }
}

}  // namespace
}  // namespace seg
