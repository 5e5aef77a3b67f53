/// NYU Depth V2: annotations are maps of depth, and names of files begin with the scene.
#include <algorithm>
#include <filesystem>

#include "segcore/data/datasets/base_seg_dataset.hpp"

namespace seg {
namespace {

const KnownClasses& nyu_scenes() {
  static const KnownClasses known{
      {"printer_room",   "bathroom",       "living_room",    "study",           "conference_room",
       "study_room",     "kitchen",        "home_office",    "bedroom",         "dinette",
       "playroom",       "indoor_balcony", "laundry_room",   "basement",        "excercise_room",
       "foyer",          "home_storage",   "cafe",           "furniture_store", "office_kitchen",
       "student_lounge", "dining_room",    "reception_room", "computer_lab",    "classroom",
       "office",         "bookstore"},
      {}};
  return known;
}

/// "living_room" of "living_room_0012.jpg".
std::string scene_of(const std::string& path) {
  const std::string name = std::filesystem::path(path).filename().string();
  const size_t digit = name.find_first_of("0123456789");
  return digit == std::string::npos || digit == 0 ? "" : name.substr(0, digit - 1);
}

}  // namespace

struct NYUDatasetParams : BaseSegDatasetParams {
  NYUDatasetParams() {
    depth = true;
    data_prefix = {.img_path = "images", .seg_map_path = {}, .depth_map_path = "annotations"};
  }
};

class NYUDataset final : public BaseSegDataset {
 public:
  using Params = NYUDatasetParams;
  static Schema<Params> schema() {
    return seg_dataset_schema<Params>(
               "NYU Depth V2: depth of indoor scenes; the classes are kinds of scenes.")
        .source("Silberman et al. 2012, Indoor segmentation and support inference from RGBD images")
        .optional("depth_map_suffix", &Params::seg_map_suffix,
                  "how the names of the maps of depth end: another name of seg_map_suffix");
  }
  static DatasetFacts facts(const Params& p) { return facts_of(p, nyu_scenes()); }
  explicit NYUDataset(const Params& params) : BaseSegDataset(params, nyu_scenes()) {}

  Sample describe(size_t index) const override {
    Sample sample = BaseSegDataset::describe(index);
    const auto& scenes = meta().classes;
    const auto at = std::find(scenes.begin(), scenes.end(), scene_of(sample.meta.img_path));
    if (at != scenes.end()) sample.meta.category_id = at - scenes.begin();
    return sample;
  }
};
SEG_REGISTER(Dataset, NYUDataset);

}  // namespace seg
