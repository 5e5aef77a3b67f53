/// Cityscapes with the annotations of training ids that cityscapesScripts makes.
#include "segcore/data/datasets/base_seg_dataset.hpp"

namespace seg {
namespace {

/// The 19 classes of the evaluation, with the colours of cityscapesScripts.
const KnownClasses& cityscapes_classes() {
  static const KnownClasses known{
      {"road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign",
       "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train",
       "motorcycle", "bicycle"},
      {{128, 64, 128},
       {244, 35, 232},
       {70, 70, 70},
       {102, 102, 156},
       {190, 153, 153},
       {153, 153, 153},
       {250, 170, 30},
       {220, 220, 0},
       {107, 142, 35},
       {152, 251, 152},
       {70, 130, 180},
       {220, 20, 60},
       {255, 0, 0},
       {0, 0, 142},
       {0, 0, 70},
       {0, 60, 100},
       {0, 80, 100},
       {0, 0, 230},
       {119, 11, 32}}};
  return known;
}

}  // namespace

struct CityscapesDatasetParams : BaseSegDatasetParams {
  CityscapesDatasetParams() {
    img_suffix = "_leftImg8bit.png";
    seg_map_suffix = "_gtFine_labelTrainIds.png";
  }
};

class CityscapesDataset final : public BaseSegDataset {
 public:
  using Params = CityscapesDatasetParams;
  static Schema<Params> schema() {
    return seg_dataset_schema<Params>("Cityscapes: 19 classes of street scenes.")
        .source("Cordts et al. 2016, arXiv:1604.01685");
  }
  static DatasetFacts facts(const Params& p) { return facts_of(p, cityscapes_classes()); }
  explicit CityscapesDataset(const Params& params) : BaseSegDataset(params, cityscapes_classes()) {}
};

SEG_REGISTER(Dataset, CityscapesDataset);

}  // namespace seg
