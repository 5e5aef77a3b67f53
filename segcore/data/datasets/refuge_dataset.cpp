/// REFUGE: the head of the optic nerve.
#include "segcore/data/datasets/known_dataset.hpp"

namespace seg {
namespace {

/// The classes, whose colours are labels of the challenge.
constexpr KnownClass kRefugeClasses[] = {
    {"background", {120, 120, 120}},
    {"Optic Cup", {6, 230, 230}},
    {"Optic Disc", {56, 59, 120}},
};

constexpr KnownDataset kRefuge{
    .summary = "REFUGE: optic cup, optic disc and the background.",
    .source = "Orlando et al. 2020, REFUGE challenge, arXiv:1910.03667",
    .classes = kRefugeClasses,
    .img_suffix = ".png",
};

}  // namespace

using REFUGEDataset = KnownSegDataset<kRefuge>;
SEG_REGISTER(Dataset, REFUGEDataset);

}  // namespace seg
