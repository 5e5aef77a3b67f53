/// CHASE_DB1, annotated by the first observer.
#include "segcore/data/datasets/vessel_classes.hpp"

namespace seg {
namespace {

constexpr KnownDataset kChaseDb1{
    .summary = "CHASE_DB1: vessels of the retina.",
    .source =
        "Fraz et al. 2012, An ensemble classification-based approach applied to retinal blood "
        "vessel segmentation",
    .classes = kVesselClasses,
    .img_suffix = ".png",
    .seg_map_suffix = "_1stHO.png",
};

}  // namespace

using ChaseDB1Dataset = KnownSegDataset<kChaseDb1>;
SEG_REGISTER(Dataset, ChaseDB1Dataset);

}  // namespace seg
