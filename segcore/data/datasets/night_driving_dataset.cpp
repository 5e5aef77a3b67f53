/// Nighttime Driving: coarse annotations of training ids of Cityscapes.
#include "segcore/data/datasets/cityscapes_classes.hpp"

namespace seg {
namespace {

constexpr KnownDataset kNightDriving{
    .summary = "Nighttime Driving: the 19 classes of Cityscapes at night, for tests.",
    .source = "Dai and Van Gool 2018, arXiv:1810.02575",
    .classes = kCityscapesClasses,
    .img_suffix = "_leftImg8bit.png",
    .seg_map_suffix = "_gtCoarse_labelTrainIds.png",
};

}  // namespace

using NightDrivingDataset = KnownSegDataset<kNightDriving>;
SEG_REGISTER(Dataset, NightDrivingDataset);

}  // namespace seg
