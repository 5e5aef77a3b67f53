#include "segcore/ops/pixels_around.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

namespace seg::pixels_around_test {

/// A map of 2x3 pixels: 1, 2, 4 over 8, 16, 32.
PixelsAround<double> around(double x, double y) { return pixels_around(x, y, 2, 3); }

std::vector<int64_t> pixels(double x, double y) {
  const auto found = around(x, y);
  return {found.pixels, found.pixels + 4};
}

struct Reading {
  double mean, right, down;
};
Reading reading(double x, double y) {
  const auto found = around(x, y);
  const double map[] = {1, 2, 4, 8, 16, 32};
  double values[4];
  for (int k = 0; k < 4; ++k) values[k] = found.pixels[k] < 0 ? 0 : map[found.pixels[k]];
  return {found.mean(values), found.slope_right(values), found.slope_down(values)};
}

TEST(PixelsAround, AreThoseOfTheMap) {
  using Pixels = std::vector<int64_t>;
  EXPECT_EQ(pixels(0.25, 0.5), (Pixels{0, 1, 3, 4}));
  EXPECT_EQ(pixels(2, 0), (Pixels{2, -1, 5, -1}));
  EXPECT_EQ(pixels(-0.25, 0.5), (Pixels{-1, 0, -1, 3}));
  EXPECT_EQ(pixels(-1, -1), (Pixels{-1, -1, -1, 0}));
  EXPECT_EQ(pixels(1.5, 1.75), (Pixels{4, 5, -1, -1}));
  const Pixels none{-1, -1, -1, -1};
  const double nan = std::numeric_limits<double>::quiet_NaN(), far = 1e30;
  for (const auto& [x, y] : std::vector<std::pair<double, double>>{
           {3, 0}, {0, 2}, {-1.25, 0}, {0, -1.25}, {nan, 0}, {0, nan}, {far, 0}, {0, -far}}) {
    EXPECT_EQ(pixels(x, y), none) << x << ", " << y;
  }
}

TEST(PixelsAround, ValuesAreBilinear) {
  EXPECT_EQ(reading(1, 1).mean, 16);
  EXPECT_EQ(reading(0.5, 0).mean, 1.5);
  EXPECT_EQ(reading(0.5, 0.5).mean, 6.75);
  EXPECT_EQ(reading(-0.5, 0).mean, 0.5);
  EXPECT_EQ(reading(2.75, 1.5).mean, 4);  // a quarter and a half of 32
  EXPECT_EQ(reading(-1, -1).mean, 0);
}

TEST(PixelsAround, SlopesAreThoseOfTheValues) {
  const double step = 1.0 / 1024;  // of places that the steps do not move past a pixel
  for (const double x : {-0.75, -0.25, 0.25, 1.5, 2.25}) {
    for (const double y : {-0.5, 0.25, 0.75, 1.5}) {
      const auto found = reading(x, y);
      EXPECT_EQ(found.right, (reading(x + step, y).mean - found.mean) / step) << x << ", " << y;
      EXPECT_EQ(found.down, (reading(x, y + step).mean - found.mean) / step) << x << ", " << y;
    }
  }
}

}  // namespace seg::pixels_around_test
