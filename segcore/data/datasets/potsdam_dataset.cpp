/// Potsdam of the ISPRS contest: annotations hold 0 (ignored) and 1 to 6.
#include "segcore/data/datasets/isprs_classes.hpp"

namespace seg {
namespace {

constexpr KnownDataset kPotsdam{
    .summary = "ISPRS Potsdam: 6 classes of aerial images.",
    .source = "ISPRS 2D semantic labelling contest, Potsdam",
    .classes = kIsprsClasses,
    .img_suffix = ".png",
    .reduce_zero_label = true,
};

}  // namespace

using PotsdamDataset = KnownSegDataset<kPotsdam>;
SEG_REGISTER(Dataset, PotsdamDataset);

}  // namespace seg
