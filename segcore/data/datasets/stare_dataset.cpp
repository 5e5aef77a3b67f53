/// STARE, annotated by the first observer.
#include "segcore/data/datasets/vessel_classes.hpp"

namespace seg {
namespace {

constexpr KnownDataset kStare{
    .summary = "STARE: vessels of the retina.",
    .source =
        "Hoover et al. 2000, Locating blood vessels in retinal images by piecewise threshold "
        "probing of a matched filter response",
    .classes = kVesselClasses,
    .img_suffix = ".png",
    .seg_map_suffix = ".ah.png",
};

}  // namespace

using STAREDataset = KnownSegDataset<kStare>;
SEG_REGISTER(Dataset, STAREDataset);

}  // namespace seg
