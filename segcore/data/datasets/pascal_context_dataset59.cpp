/// PASCAL-Context without the background: annotations hold 0 (ignored) and 1 to 59.
#include "segcore/data/datasets/pascal_context_classes.hpp"

namespace seg {
namespace {

constexpr KnownDataset kPascalContext59{
    .summary = "PASCAL-Context: 59 classes; the background is ignored.",
    .source =
        "Mottaghi et al. 2014, The role of context for object detection and semantic segmentation "
        "in the wild",
    .classes = std::span(kPascalContextClasses).subspan(1),
    .reduce_zero_label = true,
};

}  // namespace

using PascalContextDataset59 = KnownSegDataset<kPascalContext59>;
SEG_REGISTER(Dataset, PascalContextDataset59);

}  // namespace seg
