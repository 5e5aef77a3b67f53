/// PASCAL-Context with the background as a class of its own.
#include "segcore/data/datasets/pascal_context_classes.hpp"

namespace seg {
namespace {

constexpr KnownDataset kPascalContext{
    .summary = "PASCAL-Context: 59 classes and the background.",
    .source =
        "Mottaghi et al. 2014, The role of context for object detection and semantic segmentation "
        "in the wild",
    .classes = kPascalContextClasses,
};

}  // namespace

using PascalContextDataset = KnownSegDataset<kPascalContext>;
SEG_REGISTER(Dataset, PascalContextDataset);

}  // namespace seg
