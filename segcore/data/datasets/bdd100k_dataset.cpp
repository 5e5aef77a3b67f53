/// BDD100K, its part for semantic segmentation; annotations are training ids of Cityscapes.
#include "segcore/data/datasets/cityscapes_classes.hpp"

namespace seg {
namespace {

constexpr KnownDataset kBdd100k{
    .summary = "BDD100K: the 19 classes of Cityscapes in street scenes of the United States.",
    .source = "Yu et al. 2020, BDD100K, arXiv:1805.04687",
    .classes = kCityscapesClasses,
};

}  // namespace

using BDD100KDataset = KnownSegDataset<kBdd100k>;
SEG_REGISTER(Dataset, BDD100KDataset);

}  // namespace seg
