/// Dark Zurich: annotations are training ids of Cityscapes.
#include "segcore/data/datasets/cityscapes_classes.hpp"

namespace seg {
namespace {

constexpr KnownDataset kDarkZurich{
    .summary = "Dark Zurich: the 19 classes of Cityscapes at night, twilight and daytime.",
    .source = "Sakaridis, Dai, Van Gool 2019, arXiv:1901.05946",
    .classes = kCityscapesClasses,
    .img_suffix = "_rgb_anon.png",
    .seg_map_suffix = "_gt_labelTrainIds.png",
};

}  // namespace

using DarkZurichDataset = KnownSegDataset<kDarkZurich>;
SEG_REGISTER(Dataset, DarkZurichDataset);

}  // namespace seg
