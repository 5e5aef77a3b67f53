#include <algorithm>
#include <cmath>
#include <opencv2/imgproc.hpp>

#include "registry/error.hpp"
#include "segcore/data/label_coding.hpp"
#include "segcore/data/region_labels.hpp"
#include "segcore/data/sample.hpp"
#include "segcore/io/json_text.hpp"

namespace seg {
namespace {

using nlohmann::json;

constexpr const char* kLabelMeIgnored = "__ignore__";

class LabelMeLabels final : public LabelCoding {
 public:
  explicit LabelMeLabels(const std::vector<std::string>& classes) : classes_(classes) {}

  RawLabels decode(const Sample& sample, const ReadOptions& /*options*/) const override {
    const std::string& path = sample.meta.seg_map_path;
    const json file = parse_json(read_sample_file(sample, path), path);
    try {
      RegionCanvas canvas(file.at("imageHeight"), file.at("imageWidth"), background_of(classes_));
      for (const json& shape : file.at("shapes")) {
        canvas.paint(mask_of(shape, canvas, path), id_of(shape.at("label"), path));
      }
      return canvas.take();
    } catch (const json::exception& e) {
      throw DataError(text(path, ": is no file of LabelMe: ", e.what()));
    }
  }

 private:
  std::optional<int64_t> id_of(const std::string& label, const std::string& path) const {
    const auto found = std::find(classes_.begin(), classes_.end(), label);
    if (found != classes_.end()) return found - classes_.begin();
    if (label == kLabelMeIgnored) return std::nullopt;
    throw DataError(text(path, ": the label '", label, "' is no class.",
                         did_you_mean(label, classes_), " Classes: ", join(classes_, ", ")));
  }

  static cv::Mat mask_of(const json& shape, const RegionCanvas& canvas, const std::string& path) {
    cv::Mat mask = canvas.empty_mask();
    Polygon points;
    for (const json& point : shape.at("points")) points.emplace_back(point.at(0), point.at(1));
    // Older files have no type: all shapes were polygons.
    const json type_of = shape.value("shape_type", json());
    const std::string type = type_of.is_string() ? type_of.get<std::string>() : "polygon";
    if (type == "polygon") {
      require(points.size() >= 3, path, type, "at least three points");
      fill_polygon(mask, points);
    } else if (type == "rectangle") {
      require(points.size() == 2, path, type, "two points");
      const auto [a, b] = std::pair(points[0], points[1]);
      fill_polygon(mask, {a, {b.first, a.second}, b, {a.first, b.second}});
    } else if (type == "circle") {
      require(points.size() == 2, path, type, "two points, its middle and one on it");
      const auto [middle, edge] = std::pair(points[0], points[1]);
      const double radius = std::hypot(edge.first - middle.first, edge.second - middle.second);
      cv::circle(mask,
                 {static_cast<int>(std::lround(middle.first)),
                  static_cast<int>(std::lround(middle.second))},
                 static_cast<int>(std::lround(radius)), 255, cv::FILLED);
    } else {
      throw DataError(text(path, ": a shape is a ", type,
                           ", which covers no area that could be labelled. Known: polygon, "
                           "rectangle, circle"));
    }
    return mask;
  }
  static void require(bool fits, const std::string& path, const std::string& type,
                      const char* needed) {
    if (!fits) throw DataError(text(path, ": a ", type, " needs ", needed));
  }

  std::vector<std::string> classes_;
};

}  // namespace

std::unique_ptr<LabelCoding> labelme_coding(const std::vector<std::string>& classes) {
  return std::make_unique<LabelMeLabels>(classes);
}

}  // namespace seg
