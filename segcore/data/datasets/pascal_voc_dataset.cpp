/// Pascal VOC: annotations are palette PNG files; their indices are the classes, 255 the void.
#include "segcore/data/datasets/base_seg_dataset.hpp"

namespace seg {
namespace {

/// The classes and colours of the development kit.
const KnownClasses& pascal_voc_classes() {
  static const KnownClasses known{
      {"background", "aeroplane", "bicycle",     "bird",  "boat",        "bottle", "bus",
       "car",        "cat",       "chair",       "cow",   "diningtable", "dog",    "horse",
       "motorbike",  "person",    "pottedplant", "sheep", "sofa",        "train",  "tvmonitor"},
      {{0, 0, 0},     {128, 0, 0},     {0, 128, 0},    {128, 128, 0},   {0, 0, 128},  {128, 0, 128},
       {0, 128, 128}, {128, 128, 128}, {64, 0, 0},     {192, 0, 0},     {64, 128, 0}, {192, 128, 0},
       {64, 0, 128},  {192, 0, 128},   {64, 128, 128}, {192, 128, 128}, {0, 64, 0},   {128, 64, 0},
       {0, 192, 0},   {128, 192, 0},   {0, 64, 128}}};
  return known;
}

}  // namespace

struct PascalVOCDatasetParams : BaseSegDatasetParams {};

class PascalVOCDataset final : public BaseSegDataset {
 public:
  using Params = PascalVOCDatasetParams;
  static Schema<Params> schema() {
    return seg_dataset_schema<Params>("Pascal VOC 2012: 20 classes and the background.")
        .source("Everingham et al. 2010, The Pascal visual object classes challenge")
        .validate([](const Params& p, Problems& problems) {
          if (p.ann_file.empty()) {
            problems.error("ann_file",
                           "PascalVOCDataset needs 'ann_file': the list of a split, as "
                           "ImageSets/Segmentation/train.txt");
          }
        });
  }
  static DatasetFacts facts(const Params& p) { return facts_of(p, pascal_voc_classes()); }
  explicit PascalVOCDataset(const Params& params) : BaseSegDataset(params, pascal_voc_classes()) {}
};

SEG_REGISTER(Dataset, PascalVOCDataset);

}  // namespace seg
