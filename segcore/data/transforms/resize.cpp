#include "segcore/data/transforms/resize.hpp"

#include <algorithm>
#include <opencv2/imgproc.hpp>

#include "segcore/data/transforms/pillow_resize.hpp"
#include "segcore/data/transforms/pixels.hpp"

namespace seg {
namespace {

int cv2_interpolation(const std::string& name) {
  if (name == "nearest") return cv::INTER_NEAREST;
  if (name == "bicubic") return cv::INTER_CUBIC;
  if (name == "area") return cv::INTER_AREA;
  if (name == "lanczos") return cv::INTER_LANCZOS4;
  return cv::INTER_LINEAR;
}

WidthHeight size_of(const cv::Mat& image) { return {image.cols, image.rows}; }

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

class Resize final : public Transform {
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

  void apply(Sample& sample, Rng&) const override {
    require_image(sample, "Resize");
    WidthHeight scale{};
    if (p_.scale) {
      if (const auto* side = std::get_if<int64_t>(&*p_.scale)) {
        scale = {*side, *side};
      } else {
        scale = std::get<WidthHeight>(*p_.scale);
      }
    } else if (const auto* factor = std::get_if<double>(&*p_.scale_factor)) {
      scale = scale_size(size_of(sample.image), *factor, *factor);
    } else {
      const auto& factors = std::get<std::array<double, 2>>(*p_.scale_factor);
      scale = scale_size(size_of(sample.image), factors[0], factors[1]);
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

cv::Mat resize_image(const cv::Mat& image, const WidthHeight& size,
                     const std::string& interpolation, const std::string& backend) {
  if (size_of(image) == size) return image;
  if (backend == "pillow") return pillow_resize(image, size, interpolation);
  cv::Mat out;
  cv::resize(image, out, cv::Size(static_cast<int>(size[0]), static_cast<int>(size[1])), 0, 0,
             cv2_interpolation(interpolation));
  return out;
}

WidthHeight scale_size(const WidthHeight& size, double factor_w, double factor_h) {
  const auto scaled = [](int64_t side, double factor) {
    return std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(side) * factor + 0.5));
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
  require_image(sample, "Resize");
  const auto target = [&](const cv::Mat& mat) {
    const WidthHeight now = size_of(mat);
    return style.keep_ratio ? rescale_size(now, scale) : scale;
  };
  if (style.backend == "pillow" && sample.image.depth() != CV_8U) {
    throw DataError(text(sample_name(sample),
                         ": the back end pillow resizes images of uint8 only, "
                         "this one has ",
                         pixel_text(sample.image), ". Use backend: cv2"));
  }
  const WidthHeight before = size_of(sample.image), after = target(sample.image);
  sample.image = resize_image(sample.image, after, style.interpolation, style.backend);
  sample.meta.scale_factor = {static_cast<double>(after[0]) / static_cast<double>(before[0]),
                              static_cast<double>(after[1]) / static_cast<double>(before[1])};
  if (!sample.image2.empty()) {
    sample.image2 = resize_image(sample.image2, after, style.interpolation, style.backend);
  }
  if (!sample.labels.empty()) {
    sample.labels = resize_image(sample.labels, target(sample.labels), "nearest", style.backend);
  }
  if (!sample.depth.empty()) {
    sample.depth = resize_image(sample.depth, target(sample.depth), "nearest", "cv2");
  }
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
  return {std::max<int64_t>(1, static_cast<int64_t>(new_width + 0.5)),
          std::max<int64_t>(1, static_cast<int64_t>(new_height + 0.5))};
}

void resize_by_type(Sample& sample, const WidthHeight& scale, const ResizeByTypeParams& how) {
  if (how.resize_type == "Resize") {
    resize_sample(sample, scale, how);
    return;
  }
  require_image(sample, how.resize_type);
  ResizeStyle fit = how;
  fit.keep_ratio = true;
  resize_sample(
      sample,
      shortest_edge_size(size_of(sample.image), std::min(scale[0], scale[1]), *how.max_size), fit);
}

}  // namespace seg
