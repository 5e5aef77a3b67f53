#include <algorithm>
#include <map>
#include <unordered_map>
#include <utility>

#include "registry/error.hpp"
#include "registry/log.hpp"
#include "segcore/data/label_coding.hpp"
#include "segcore/data/region_labels.hpp"
#include "segcore/data/sample.hpp"
#include "segcore/image/image_io.hpp"
#include "segcore/io/json_text.hpp"

namespace seg {
namespace {

using nlohmann::json;

/// Polygons, or one list of run lengths.
struct CocoObject {
  int64_t class_id = 0;
  std::vector<Polygon> polygons;
  std::vector<int64_t> runs;
};

struct CocoImage {
  int64_t height = 0, width = 0;
  std::vector<CocoObject> objects;
};

json read_coco(const std::string& path) {
  json file = parse_json(read_file_bytes(path), path);
  for (const char* key : {"images", "annotations", "categories"}) {
    if (!file.is_object() || !file.contains(key)) {
      throw DataError(text(path, ": is no file of COCO: it has no '", key, "'"));
    }
  }
  return file;
}

CocoObject coco_object(const json& annotation, int64_t class_id, const std::string& path) {
  CocoObject out{.class_id = class_id, .polygons = {}, .runs = {}};
  const json& shape = annotation.at("segmentation");
  if (shape.is_array()) {
    for (const json& numbers : shape) {
      Polygon polygon;
      for (size_t i = 0; i + 1 < numbers.size(); i += 2) {
        polygon.emplace_back(numbers[i], numbers[i + 1]);
      }
      out.polygons.push_back(std::move(polygon));
    }
    return out;
  }
  const json& counts = shape.at("counts");
  out.runs = counts.is_string() ? runs_of_text(counts) : counts.get<std::vector<int64_t>>();
  if (out.runs.empty()) {
    throw DataError(text(path, ": the run lengths of annotation ", annotation.at("id").dump(),
                         " cannot be read"));
  }
  return out;
}

class CocoLabels final : public LabelCoding {
 public:
  CocoLabels(std::string path, const std::vector<std::string>& classes)
      : path_(std::move(path)), background_(background_of(classes)) {
    const json file = read_coco(path_);
    try {
      read(file, classes);
    } catch (const json::exception& e) {
      throw DataError(text(path_, ": is no file of COCO: ", e.what()));
    }
  }

  RawLabels decode(const Sample& sample, const ReadOptions& /*options*/) const override {
    const auto& [name, image] = image_of(sample.meta.img_path);
    RegionCanvas canvas(image.height, image.width, background_);
    for (const CocoObject& object : image.objects) {
      cv::Mat mask = canvas.empty_mask();
      for (const Polygon& polygon : object.polygons) fill_coco_polygon(mask, polygon);
      if (!object.runs.empty() && !fill_runs(mask, object.runs)) {
        throw DataError(text(path_, ": the run lengths of an object of ", name, " are not ",
                             image.height, " x ", image.width, " pixels"));
      }
      canvas.paint(mask, object.class_id);
    }
    return canvas.take();
  }

 private:
  void read(const json& file, const std::vector<std::string>& classes) {
    std::map<int64_t, std::optional<int64_t>> class_of;
    std::vector<std::string> unknown;
    for (const json& category : file.at("categories")) {
      const std::string name = category.at("name");
      const auto found = std::find(classes.begin(), classes.end(), name);
      auto& id = class_of[category.at("id")];
      if (found != classes.end()) {
        id = found - classes.begin();
      } else {
        unknown.push_back(name);
      }
    }
    if (!unknown.empty()) {
      log::warn(path_, ": the objects of ", unknown.size(),
                unknown.size() == 1 ? " category that is no class are"
                                    : " categories that are no classes are",
                " left out: ", join(unknown, ", "));
    }
    std::map<int64_t, std::string> names;
    for (const json& image : file.at("images")) {
      const std::string name = image.at("file_name");
      names[image.at("id")] = name;
      images_[name] = {.height = image.at("height"), .width = image.at("width"), .objects = {}};
    }
    for (const json& annotation : file.at("annotations")) {
      const auto name = names.find(annotation.at("image_id"));
      const auto category = class_of.find(annotation.at("category_id"));
      if (name == names.end() || category == class_of.end()) {
        throw DataError(text(path_, ": annotation ", annotation.at("id").dump(), " is of ",
                             name == names.end() ? "an image" : "a category",
                             " that is not in the file"));
      }
      if (!category->second) continue;
      images_.at(name->second).objects.push_back(coco_object(annotation, *category->second, path_));
    }
  }

  const std::pair<const std::string, CocoImage>& image_of(const std::string& path) const {
    // The names have as many folders as the file gives them.
    for (size_t slash = path.size(); slash != std::string::npos && slash > 0;) {
      slash = path.rfind('/', slash - 1);
      const auto found = images_.find(path.substr(slash == std::string::npos ? 0 : slash + 1));
      if (found != images_.end()) return *found;
    }
    throw DataError(text(path_, ": has no image ", path));
  }

  std::string path_;
  std::optional<int64_t> background_;
  std::unordered_map<std::string, CocoImage> images_;  ///< by `file_name`
};

}  // namespace

std::unique_ptr<LabelCoding> coco_coding(const std::string& path,
                                         const std::vector<std::string>& classes) {
  return std::make_unique<CocoLabels>(path, classes);
}

std::vector<std::string> coco_images(const std::string& path) {
  const json file = read_coco(path);
  std::vector<std::string> out;
  try {
    for (const json& image : file.at("images")) out.push_back(image.at("file_name"));
  } catch (const json::exception& e) {
    throw DataError(text(path, ": is no file of COCO: ", e.what()));
  }
  return out;
}

}  // namespace seg
