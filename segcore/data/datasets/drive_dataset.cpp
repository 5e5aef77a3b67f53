/// DRIVE, annotated by the first observer.
#include "segcore/data/datasets/vessel_classes.hpp"

namespace seg {
namespace {

constexpr KnownDataset kDrive{
    .summary = "DRIVE: vessels of the retina.",
    .source = "Staal et al. 2004, Ridge-based vessel segmentation in color images of the retina",
    .classes = kVesselClasses,
    .img_suffix = ".png",
    .seg_map_suffix = "_manual1.png",
};

}  // namespace

using DRIVEDataset = KnownSegDataset<kDrive>;
SEG_REGISTER(Dataset, DRIVEDataset);

}  // namespace seg
