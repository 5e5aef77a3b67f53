/// CamVid: raw label 11 is "unlabelled" and becomes ignore_index, whichever that is.
#include "segcore/data/datasets/base_seg_dataset.hpp"

namespace seg {
namespace {

/// The classes and colours of the SegNet tutorial (Kendall et al.).
const KnownClasses& camvid_classes() {
  static const KnownClasses known{{"sky", "building", "pole", "road", "pavement", "tree",
                                   "sign symbol", "fence", "car", "pedestrian", "bicyclist"},
                                  {{128, 128, 128},
                                   {128, 0, 0},
                                   {192, 192, 128},
                                   {128, 64, 128},
                                   {60, 40, 222},
                                   {128, 128, 0},
                                   {192, 128, 128},
                                   {64, 64, 128},
                                   {64, 0, 128},
                                   {64, 64, 0},
                                   {0, 128, 192}}};
  return known;
}

}  // namespace

struct CamVidDatasetParams : BaseSegDatasetParams {
  CamVidDatasetParams() { img_suffix = ".png"; }
};

class CamVidDataset final : public BaseSegDataset {
 public:
  using Params = CamVidDatasetParams;
  static Schema<Params> schema() {
    return seg_dataset_schema<Params>(
               "CamVid in the split of the SegNet tutorial: 11 classes of street scenes.")
        .source("Brostow, Fauqueur, Cipolla 2009, Semantic object classes in video");
  }
  static DatasetFacts facts(const Params& p) { return facts_of(p, camvid_classes()); }
  explicit CamVidDataset(const Params& params)
      : BaseSegDataset(params, camvid_classes(), /*unlabelled=*/11) {}
};

SEG_REGISTER(Dataset, CamVidDataset);

}  // namespace seg
