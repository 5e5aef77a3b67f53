/// Shapes drawn in memory: a data set for trying things out that needs no files.
#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <opencv2/core.hpp>

#include "registry/error.hpp"
#include "segcore/data/dataset.hpp"
#include "segcore/data/pipeline.hpp"
#include "segcore/data/rng.hpp"

namespace seg {
namespace {

enum ShapeClass { kBackground, kDisc, kSquare, kTriangle, kRing, kShapeClasses };

/// Coloured stripes or checks: the spectrum of a hue, and a wave over it.
struct ShapeTexture {
  double hue = 0, saturation = 0, level = 0;
  double along_x = 0, along_y = 0, phase = 0, depth = 0;
  bool checks = false;

  /// Brightness of a band at a pixel, 0..255.
  double at(double x, double y, double shade_of_band) const {
    const double u = x * along_x + y * along_y + phase;
    double wave = std::sin(u);
    if (checks) wave *= std::sin(y * along_x - x * along_y);
    return level + saturation * shade_of_band + depth * wave;
  }
};

struct ShapePlace {
  ShapeClass kind = kDisc;
  double x = 0, y = 0, radius = 0, turn = 0;

  bool holds(double px, double py) const {
    const double dx = (px - x) / radius, dy = (py - y) / radius;
    const double u = dx * std::cos(turn) + dy * std::sin(turn);
    const double v = dy * std::cos(turn) - dx * std::sin(turn);
    switch (kind) {
      case kDisc:
        return dx * dx + dy * dy <= 1.0;
      case kRing: {
        // The hole is wide enough to be seen at a quarter of the resolution.
        constexpr double kHole = 0.5;
        const double square = dx * dx + dy * dy;
        return square <= 1.0 && square >= kHole * kHole;
      }
      case kSquare: {
        // Half a side: the area is that of the disc, so that size does not distinguish them.
        constexpr double kHalf = 0.886;
        return std::abs(u) <= kHalf && std::abs(v) <= kHalf;
      }
      case kTriangle: {
        // Equilateral, pointing to -v, centroid in the middle.
        constexpr double kInner = 0.65;
        const double slope = std::numbers::sqrt3;
        return v <= kInner && v >= slope * std::abs(u) - 2 * kInner;
      }
      default:
        return false;
    }
  }
};

}  // namespace

struct SyntheticShapesDatasetParams {
  int64_t num_samples = 256;
  std::array<int64_t, 2> size{96, 96};
  int64_t bands = 3;
  int64_t seed = 0;
  double difficulty = 0.5;
  std::vector<Spec<Transform>> pipeline;
  int64_t ignore_index = 255;
};

class SyntheticShapesDataset final : public Dataset {
 public:
  using Params = SyntheticShapesDatasetParams;
  static Schema<Params> schema() {
    return Schema<Params>(
               "Coloured, textured discs, squares, triangles and rings on a textured ground, drawn "
               "in memory.")
        .optional("num_samples", &Params::num_samples, "images of the data set", at_least(1))
        .optional("size", &Params::size, "height and width of an image", in_range(16, 16384))
        .optional("bands", &Params::bands, "bands of an image; three are BGR",
                  in_range(1, CV_CN_MAX))
        .optional("seed", &Params::seed, "other seeds draw other images", at_least(0))
        .optional("difficulty", &Params::difficulty,
                  "0: colour identifies the class; 1: the outline does, under heavy noise",
                  in_range(0, 1))
        .optional("pipeline", &Params::pipeline,
                  "steps from the image to tensors; those that load files are skipped")
        .optional("ignore_index", &Params::ignore_index, "label that neither trains nor counts")
        .accepted("test_mode", "has no effect: no sample is ever unusable")
        .accepted("lazy_init", "has no effect: there is nothing to look for");
  }

  static DatasetFacts facts(const Params& p) {
    return {.pipeline = p.pipeline,
            .classes = {"background", "disc", "square", "triangle", "ring"}};
  }
  explicit SyntheticShapesDataset(const Params& params)
      : params_(params), pipeline_(params.pipeline) {
    meta_.classes = facts(params).classes;
    meta_.palette = {{64, 64, 64}, {230, 60, 60}, {60, 180, 75}, {60, 110, 230}, {245, 190, 40}};
    meta_.ignore_index = params.ignore_index;
  }

  size_t size() const override { return static_cast<size_t>(params_.num_samples); }
  const DatasetMeta& meta() const override { return meta_; }
  std::pair<std::string, std::string> paths(size_t index) const override {
    const std::string name = text("shapes_", params_.seed, "_", index);
    return {name, name + "_labels"};
  }
  bool in_memory(size_t) const override { return true; }
  std::vector<Sample> unpacked(size_t index, uint64_t seed, uint64_t epoch,
                               Unusable) const override {
    return pipeline_.run(describe(index), seed, epoch);
  }
  Sample describe(size_t index) const override {
    SEG_CHECK(index < size(), "sample ", index, " of ", size());
    Sample sample = Dataset::describe(index);
    draw(index, sample);
    sample.meta.ori_shape = params_.size;
    sample.meta.img_shape = params_.size;
    return sample;
  }

 private:
  ShapeTexture texture(Rng& rng, double hue) const {
    ShapeTexture out;
    out.hue = hue;
    out.level = rng.uniform(90, 165);
    out.saturation = rng.uniform(50, 80);
    const double direction = rng.uniform(0, std::numbers::pi);
    const double length = rng.uniform(4, 14);  // of a wave, in pixels
    out.along_x = std::cos(direction) * 2 * std::numbers::pi / length;
    out.along_y = std::sin(direction) * 2 * std::numbers::pi / length;
    out.phase = rng.uniform(0, 2 * std::numbers::pi);
    out.depth = rng.uniform(0, 50) * params_.difficulty;
    out.checks = rng.chance(0.5);
    return out;
  }

  /// How strongly a hue shows in each band: three bands at a third of a circle each are RGB.
  std::vector<double> shades(double hue) const {
    std::vector<double> out(static_cast<size_t>(params_.bands));
    for (size_t b = 0; b < out.size(); ++b) {
      const size_t band = out.size() == 3 ? 2 - b : b;  // stored as BGR
      out[b] = std::cos(hue - 2 * std::numbers::pi * static_cast<double>(band) /
                                  static_cast<double>(std::max<size_t>(out.size(), 3)));
    }
    return out;
  }

  void draw(size_t index, Sample& sample) const {
    Rng rng(static_cast<uint64_t>(params_.seed), RngPurpose::kSynthetic, 0, index);
    const auto height = static_cast<int>(params_.size[0]),
               width = static_cast<int>(params_.size[1]);
    const double side = std::min(height, width);
    const auto bands = static_cast<size_t>(params_.bands);
    cv::Mat values(height, width, CV_32FC(static_cast<int>(bands)));
    sample.labels = cv::Mat(height, width, CV_8UC1, cv::Scalar(kBackground));

    const auto fill = [&](const ShapePlace* place, const ShapeTexture& look) {
      const auto shade = shades(look.hue);
      int y0 = 0, y1 = height, x0 = 0, x1 = width;
      if (place) {
        const double reach = 1.35 * place->radius;  // the corners of square and triangle
        y0 = std::max(0, static_cast<int>(place->y - reach));
        y1 = std::min(height, static_cast<int>(place->y + reach) + 2);
        x0 = std::max(0, static_cast<int>(place->x - reach));
        x1 = std::min(width, static_cast<int>(place->x + reach) + 2);
      }
      for (int y = y0; y < y1; ++y) {
        auto* value = values.ptr<float>(y) + static_cast<size_t>(x0) * bands;
        auto* label = sample.labels.ptr<uint8_t>(y);
        for (int x = x0; x < x1; ++x, value += bands) {
          if (place && !place->holds(x, y)) continue;
          if (place) label[x] = static_cast<uint8_t>(place->kind);
          for (size_t b = 0; b < bands; ++b) value[b] = static_cast<float>(look.at(x, y, shade[b]));
        }
      }
    };
    ShapeTexture ground = texture(rng, rng.uniform(0, 2 * std::numbers::pi));
    ground.saturation *= 0.4;
    fill(nullptr, ground);
    const int64_t count = 2 + rng.below(4);
    for (int64_t i = 0; i < count; ++i) {
      ShapePlace place;
      place.kind = static_cast<ShapeClass>(1 + rng.below(kShapeClasses - 1));
      place.radius = side * rng.uniform(0.11, 0.22);
      place.x = rng.uniform(0.1, 0.9) * width;
      place.y = rng.uniform(0.1, 0.9) * height;
      place.turn = rng.uniform(0, 2 * std::numbers::pi);
      // Each class has a hue of its own, from which its shapes stray: at 0.6 until neighbouring
      // classes meet, at 1 nearly as far as the next class, so that only outlines distinguish them.
      const double own = (place.kind - 1) * std::numbers::pi / 2;
      const double stray = 0.42 * std::numbers::pi * params_.difficulty;
      fill(&place, texture(rng, own + rng.uniform(-stray, stray)));
    }
    const auto noise = static_cast<float>(0.3 * params_.difficulty);
    sample.image.create(height, width, CV_8UC(static_cast<int>(bands)));
    const size_t samples = static_cast<size_t>(width) * bands;
    uint32_t bits = 0;
    size_t drawn = 0;
    for (int y = 0; y < height; ++y) {
      const auto* in = values.ptr<float>(y);
      auto* out = sample.image.ptr<uint8_t>(y);
      for (size_t i = 0; i < samples; ++i, ++drawn) {
        if (drawn % 4 == 0) bits = rng.bits();
        const float jitter = noise * (static_cast<float>(bits & 0xFF) - 127.5f);
        bits >>= 8;
        out[i] = cv::saturate_cast<uint8_t>(in[i] + jitter);
      }
    }
  }

  Params params_;
  Pipeline pipeline_;
  DatasetMeta meta_;
};

SEG_REGISTER(Dataset, SyntheticShapesDataset);

}  // namespace seg
