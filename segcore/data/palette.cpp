#include "segcore/data/palette.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace seg {
namespace {

using PaletteColour = std::array<int, 3>;
using LabColour = std::array<double, 3>;

/// CIE L*a*b* under D65 of an sRGB colour: distances in it are about as large as they look.
LabColour to_lab(const PaletteColour& rgb) {
  LabColour linear;
  for (size_t i = 0; i < 3; ++i) {
    const double v = rgb[i] / 255.0;
    linear[i] = v <= 0.04045 ? v / 12.92 : std::pow((v + 0.055) / 1.055, 2.4);
  }
  const auto [r, g, b] = linear;
  const auto f = [](double t) {
    return t > 216.0 / 24389 ? std::cbrt(t) : (24389.0 / 27 * t + 16) / 116;
  };
  const double x = f((0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505);
  const double y = f(0.2126 * r + 0.7152 * g + 0.0722 * b);
  const double z = f((0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089);
  return {116 * y - 16, 500 * (x - y), 200 * (y - z)};
}

double lab_distance(const LabColour& a, const LabColour& b) {
  double sum = 0;
  for (size_t i = 0; i < 3; ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}

// Red, blue, yellow, magenta, cyan, orange, green, purple, pink, navy, brown, lavender: neighbours
// in this order differ in hue and mostly in lightness.
const Palette kFirstColours{{{230, 25, 75}},  {{0, 130, 200}},  {{255, 225, 25}},
                            {{240, 50, 230}}, {{70, 240, 240}}, {{245, 130, 48}},
                            {{60, 180, 75}},  {{145, 30, 180}}, {{250, 190, 212}},
                            {{0, 0, 128}},    {{170, 110, 40}}, {{220, 190, 255}}};

struct PaletteCandidate {
  PaletteColour rgb;
  LabColour lab;
  double distance = std::numeric_limits<double>::max();  ///< squared, to the nearest chosen one
};

/// A grid of colours that are neither grey, as streets are, nor nearly black.
std::vector<PaletteCandidate> palette_candidates() {
  constexpr int kLevels = 11;
  std::vector<PaletteCandidate> out;
  for (int i = 0; i < kLevels * kLevels * kLevels; ++i) {
    const auto level = [](int k) { return k * 255 / (kLevels - 1); };
    const PaletteColour rgb{level(i / (kLevels * kLevels)), level(i / kLevels % kLevels),
                            level(i % kLevels)};
    const LabColour lab = to_lab(rgb);
    if (lab[0] > 20 && std::hypot(lab[1], lab[2]) > 20) out.push_back({rgb, lab});
  }
  return out;
}

}  // namespace

Palette default_palette(int64_t classes) {
  const auto wanted = static_cast<size_t>(std::max<int64_t>(0, classes));
  Palette out(kFirstColours.begin(), kFirstColours.begin() + static_cast<std::ptrdiff_t>(std::min(
                                                                 wanted, kFirstColours.size())));
  if (out.size() == wanted) return out;
  std::vector<PaletteCandidate> candidates = palette_candidates();
  const auto exclude_near = [&](const PaletteColour& chosen) {
    const LabColour lab = to_lab(chosen);
    for (PaletteCandidate& c : candidates) {
      c.distance = std::min(c.distance, lab_distance(c.lab, lab));
    }
  };
  for (const auto& colour : out) exclude_near(colour);
  while (out.size() < wanted) {
    const auto farthest =
        std::max_element(candidates.begin(), candidates.end(),
                         [](const auto& a, const auto& b) { return a.distance < b.distance; });
    // More classes than colours: they come again.
    const PaletteColour next = farthest->distance > 0 ? farthest->rgb : out[out.size() % 1000];
    out.push_back(next);
    exclude_near(next);
  }
  return out;
}

Palette palette_or_default(const Palette& palette, int64_t classes) {
  return static_cast<int64_t>(palette.size()) >= classes ? palette : default_palette(classes);
}

}  // namespace seg
