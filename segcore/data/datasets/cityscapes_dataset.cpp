/// Cityscapes with the annotations of training ids that cityscapesScripts makes.
#include "segcore/data/datasets/cityscapes_classes.hpp"

namespace seg {
namespace {

constexpr KnownDataset kCityscapes{
    .summary = "Cityscapes: 19 classes of street scenes.",
    .source = "Cordts et al. 2016, arXiv:1604.01685",
    .classes = kCityscapesClasses,
    .img_suffix = "_leftImg8bit.png",
    .seg_map_suffix = "_gtFine_labelTrainIds.png",
};

}  // namespace

using CityscapesDataset = KnownSegDataset<kCityscapes>;
SEG_REGISTER(Dataset, CityscapesDataset);

}  // namespace seg
