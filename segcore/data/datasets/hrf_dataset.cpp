/// HRF: images and annotations of one name.
#include "segcore/data/datasets/vessel_classes.hpp"

namespace seg {
namespace {

constexpr KnownDataset kHrf{
    .summary = "HRF: vessels of the retina in images of 3504 x 2336.",
    .source = "Budai et al. 2013, Robust vessel segmentation in fundus images",
    .classes = kVesselClasses,
    .img_suffix = ".png",
};

}  // namespace

using HRFDataset = KnownSegDataset<kHrf>;
SEG_REGISTER(Dataset, HRFDataset);

}  // namespace seg
