/// Vaihingen of the ISPRS contest: annotations hold 0 (ignored) and 1 to 6.
#include "segcore/data/datasets/isprs_classes.hpp"

namespace seg {
namespace {

constexpr KnownDataset kIsprs{
    .summary = "ISPRS Vaihingen: 6 classes of aerial images.",
    .source = "ISPRS 2D semantic labelling contest, Vaihingen",
    .classes = kIsprsClasses,
    .img_suffix = ".png",
    .reduce_zero_label = true,
};

}  // namespace

using ISPRSDataset = KnownSegDataset<kIsprs>;
SEG_REGISTER(Dataset, ISPRSDataset);

}  // namespace seg
