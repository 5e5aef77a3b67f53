#include "segcore/data/transforms/resize.hpp"

#include <algorithm>
#include <cmath>

#include "segcore/data/transforms/pixels.hpp"
#include "segcore/image/resize_image.hpp"

namespace seg {
namespace {

WidthHeight sides(const cv::Size& size) { return {size.width, size.height}; }

/// int(x + 0.5) of a positive number, as MMCV has it.
int64_t half_up(double x) { return static_cast<int64_t>(std::floor(x + 0.5)); }

void check_style(const ResizeStyle& p, Problems& problems) {
  const std::vector<std::string> known =
      p.backend == "pillow"
          ? std::vector<std::string>{"nearest", "bilinear", "bicubic", "box", "lanczos", "hamming"}
          : std::vector<std::string>{"nearest", "bilinear", "bicubic", "area", "lanczos"};
  if (std::find(known.begin(), known.end(), p.interpolation) == known.end()) {
    problems.error("interpolation",
                   text("the back end ", p.backend, " has no '", p.interpolation, "'.",
                        did_you_mean(p.interpolation, known), " Known: ", join(known, ", ")));
  }
}

class ResizeWarp final : public Warp {
 public:
  ResizeWarp(const cv::Size& to, std::string interpolation, std::string backend)
      : to_(to), interpolation_(std::move(interpolation)), backend_(std::move(backend)) {}

  cv::Size size(const cv::Size&) const override { return to_; }
  bool makes_whole(const cv::Size& from, int type) const override {
    if (backend_ != "cv2") return true;
    if (nearest()) return false;
    return interpolation_ != "bilinear" || type != CV_8UC3 || is_averaged(from, to_);
  }
  cv::Rect needed(const cv::Size& from, int type, const cv::Rect& part) const override {
    if (makes_whole(from, type)) return {{}, from};
    const ResizedPart to{to_, part};
    return nearest() ? needed_pixels_nearest(from, to) : needed_pixels(from, to);
  }
  cv::Mat make(const PictureWindow& from, const cv::Rect& part, Flips flips) const override {
    if (makes_whole(from.whole, from.pixels.type())) {
      return flipped(resize_image(from.pixels, to_, interpolation_, backend_)(part), flips);
    }
    const ResizedPart to{to_, part, flips.x, flips.y};
    return nearest() ? resize_part_nearest(from, to) : resize_part_bilinear(from, to);
  }

 private:
  bool nearest() const { return interpolation_ == "nearest"; }
  cv::Size to_;
  std::string interpolation_, backend_;
};

class Resize final : public GeometricTransform {
 public:
  using Params = ResizeParams;
  static Schema<Params> schema() {
    return Schema<Params>("Resizes image and labels to a size or by a factor.")
        .source("MMCV 2.1")
        .optional("scale", &Params::scale, "width and height in pixels, or one number for both",
                  at_least(1))
        .optional("scale_factor", &Params::scale_factor,
                  "factor, or one for the width and one for the height; used where scale is null",
                  above(0))
        .include(ResizeStyle::schema())
        .validate([](const Params& p, Problems& problems) {
          if (!p.scale && !p.scale_factor) {
            problems.error("scale", "Resize needs 'scale' or 'scale_factor'");
          }
        });
  }
  explicit Resize(const Params& p) : p_(p) {}

  void plan(Sample& sample, Rng&) const override {
    const WidthHeight now = sides(planned_size(sample, "Resize"));
    WidthHeight scale{};
    if (p_.scale) {
      if (const auto* side = std::get_if<int64_t>(&*p_.scale)) {
        scale = {*side, *side};
      } else {
        scale = std::get<WidthHeight>(*p_.scale);
      }
    } else if (const auto* factor = std::get_if<double>(&*p_.scale_factor)) {
      scale = scale_size(now, *factor, *factor);
    } else {
      const auto& factors = std::get<std::array<double, 2>>(*p_.scale_factor);
      scale = scale_size(now, factors[0], factors[1]);
    }
    resize_sample(sample, scale, p_);
  }

 private:
  Params p_;
};
SEG_REGISTER(Transform, Resize);

}  // namespace

Schema<ResizeStyle> ResizeStyle::schema() {
  return Schema<ResizeStyle>("")
      .optional("keep_ratio", &ResizeStyle::keep_ratio,
                "keep the ratio of the sides: the longer one fits the larger number of the scale "
                "and the shorter one the smaller")
      .accepted("clip_object_border", "of boxes, which are not read here: no effect")
      .optional("backend", &ResizeStyle::backend, "whose arithmetic to follow",
                one_of({"cv2", "pillow"}))
      .optional("interpolation", &ResizeStyle::interpolation,
                "nearest, bilinear, bicubic, lanczos; area with cv2; box and hamming with pillow. "
                "Labels are always nearest")
      .validate(check_style);
}

Schema<ResizeByTypeParams> ResizeByTypeParams::schema() {
  return Schema<ResizeByTypeParams>("")
      .optional("resize_type", &ResizeByTypeParams::resize_type, "what resizes to the scale drawn",
                one_of({"Resize", "ResizeShortestEdge"}))
      .optional("max_size", &ResizeByTypeParams::max_size,
                "of ResizeShortestEdge: upper limit of the longer side", at_least(1))
      .include(ResizeStyle::schema())
      .validate([](const ResizeByTypeParams& p, Problems& problems) {
        const bool shortest = p.resize_type == "ResizeShortestEdge";
        if (shortest && !p.max_size) {
          problems.error("max_size", "ResizeShortestEdge needs 'max_size'");
        }
        if (!shortest && p.max_size) {
          problems.error("max_size",
                         "Resize has no parameter 'max_size': set resize_type to "
                         "ResizeShortestEdge, or remove it");
        }
      });
}

cv::Size size_of(const WidthHeight& size) {
  return {static_cast<int>(size[0]), static_cast<int>(size[1])};
}

void plan_resizing(Geometry& geometry, const cv::Size& now, const cv::Size& to,
                   const std::string& interpolation, const std::string& backend) {
  if (now != to) geometry.warp(std::make_shared<ResizeWarp>(to, interpolation, backend));
}

WidthHeight scale_size(const WidthHeight& size, double factor_w, double factor_h) {
  const auto scaled = [](int64_t side, double factor) {
    return std::max<int64_t>(1, half_up(static_cast<double>(side) * factor));
  };
  return {scaled(size[0], factor_w), scaled(size[1], factor_h)};
}

WidthHeight rescale_size(const WidthHeight& size, const WidthHeight& scale) {
  const double factor = std::min(static_cast<double>(std::max(scale[0], scale[1])) /
                                     static_cast<double>(std::max(size[0], size[1])),
                                 static_cast<double>(std::min(scale[0], scale[1])) /
                                     static_cast<double>(std::min(size[0], size[1])));
  return scale_size(size, factor, factor);
}

void resize_sample(Sample& sample, const WidthHeight& scale, const ResizeStyle& style) {
  const WidthHeight before = sides(planned_size(sample, "Resize"));
  const auto target = [&](const WidthHeight& now) {
    return style.keep_ratio ? rescale_size(now, scale) : scale;
  };
  if (style.backend == "pillow" &&
      CV_MAT_DEPTH(sample.source ? sample.source->type() : sample.image.type()) != CV_8U) {
    settle(sample);
    throw DataError(text(sample_name(sample),
                         ": the back end pillow resizes images of uint8 only, "
                         "this one has ",
                         pixel_text(sample.image), ". Use backend: cv2"));
  }
  const WidthHeight after = target(before);
  sample.meta.scale_factor = {static_cast<double>(after[0]) / static_cast<double>(before[0]),
                              static_cast<double>(after[1]) / static_cast<double>(before[1])};
  plan_pictures(sample, "Resize", [&](Geometry& geometry, const cv::Size& now, PictureKind kind) {
    const bool nearest = kind != PictureKind::kImage;
    plan_resizing(geometry, now, size_of(target(sides(now))),
                  nearest ? "nearest" : style.interpolation,
                  kind == PictureKind::kDepth ? "cv2" : style.backend);
  });
}

WidthHeight shortest_edge_size(const WidthHeight& size, int64_t shortest, int64_t max_size) {
  const auto width = static_cast<double>(size[0]), height = static_cast<double>(size[1]);
  const auto side = static_cast<double>(shortest);
  const double scale = side / std::min(width, height);
  double new_height = height < width ? side : scale * height;
  double new_width = height < width ? scale * width : side;
  if (const double longer = std::max(new_height, new_width);
      longer > static_cast<double>(max_size)) {
    const double shrink = static_cast<double>(max_size) / longer;
    new_height *= shrink;
    new_width *= shrink;
  }
  return {std::max<int64_t>(1, half_up(new_width)), std::max<int64_t>(1, half_up(new_height))};
}

void resize_by_type(Sample& sample, const WidthHeight& scale, const ResizeByTypeParams& how) {
  if (how.resize_type == "Resize") {
    resize_sample(sample, scale, how);
    return;
  }
  const WidthHeight now = sides(planned_size(sample, how.resize_type));
  ResizeStyle fit = static_cast<const ResizeStyle&>(how);
  fit.keep_ratio = true;
  resize_sample(sample, shortest_edge_size(now, std::min(scale[0], scale[1]), *how.max_size), fit);
}

}  // namespace seg
