/// LoveDA: annotations hold 0 (no data) and 1 to 7.
#include "segcore/data/datasets/known_dataset.hpp"

namespace seg {
namespace {

/// The classes and colours of the challenge.
constexpr KnownClass kLoveDaClasses[] = {
    {"background", {255, 255, 255}},   {"building", {255, 0, 0}},
    {"road", {255, 255, 0}},           {"water", {0, 0, 255}},
    {"barren", {159, 129, 183}},       {"forest", {0, 255, 0}},
    {"agricultural", {255, 195, 128}},
};

constexpr KnownDataset kLoveDa{
    .summary = "LoveDA: 7 classes of land cover.",
    .source = "Wang et al. 2021, LoveDA, arXiv:2110.08733",
    .classes = kLoveDaClasses,
    .img_suffix = ".png",
    .reduce_zero_label = true,
};

}  // namespace

using LoveDADataset = KnownSegDataset<kLoveDa>;
SEG_REGISTER(Dataset, LoveDADataset);

}  // namespace seg
