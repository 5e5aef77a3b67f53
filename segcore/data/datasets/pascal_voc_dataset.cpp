/// Pascal VOC: annotations are palette PNG files; their indices are the classes, 255 the void.
#include "segcore/data/datasets/known_dataset.hpp"

namespace seg {
namespace {

/// The classes and colours of the development kit.
constexpr KnownClass kPascalVocClasses[] = {
    {"background", {0, 0, 0}},   {"aeroplane", {128, 0, 0}},  {"bicycle", {0, 128, 0}},
    {"bird", {128, 128, 0}},     {"boat", {0, 0, 128}},       {"bottle", {128, 0, 128}},
    {"bus", {0, 128, 128}},      {"car", {128, 128, 128}},    {"cat", {64, 0, 0}},
    {"chair", {192, 0, 0}},      {"cow", {64, 128, 0}},       {"diningtable", {192, 128, 0}},
    {"dog", {64, 0, 128}},       {"horse", {192, 0, 128}},    {"motorbike", {64, 128, 128}},
    {"person", {192, 128, 128}}, {"pottedplant", {0, 64, 0}}, {"sheep", {128, 64, 0}},
    {"sofa", {0, 192, 0}},       {"train", {128, 192, 0}},    {"tvmonitor", {0, 64, 128}},
};

constexpr KnownDataset kPascalVoc{
    .summary = "Pascal VOC 2012: 20 classes and the background.",
    .source = "Everingham et al. 2010, The Pascal visual object classes challenge",
    .classes = kPascalVocClasses,
};

}  // namespace

class PascalVOCDataset final : public KnownSegDataset<kPascalVoc> {
 public:
  static Schema<Params> schema() {
    return KnownSegDataset::schema().validate([](const Params& p, Problems& problems) {
      if (p.ann_file.empty()) {
        problems.error("ann_file",
                       "PascalVOCDataset needs 'ann_file': the list of a split, as "
                       "ImageSets/Segmentation/train.txt");
      }
    });
  }
  using KnownSegDataset::KnownSegDataset;
};
SEG_REGISTER(Dataset, PascalVOCDataset);

}  // namespace seg
