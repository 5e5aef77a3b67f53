/// CamVid: raw label 11 is "unlabelled" and becomes ignore_index, whichever that is.
#include "segcore/data/datasets/known_dataset.hpp"

namespace seg {
namespace {

/// The classes and colours of the SegNet tutorial (Kendall et al.).
constexpr KnownClass kCamVidClasses[] = {
    {"sky", {128, 128, 128}},         {"building", {128, 0, 0}},    {"pole", {192, 192, 128}},
    {"road", {128, 64, 128}},         {"pavement", {60, 40, 222}},  {"tree", {128, 128, 0}},
    {"sign symbol", {192, 128, 128}}, {"fence", {64, 64, 128}},     {"car", {64, 0, 128}},
    {"pedestrian", {64, 64, 0}},      {"bicyclist", {0, 128, 192}},
};

constexpr KnownDataset kCamVid{
    .summary = "CamVid in the split of the SegNet tutorial: 11 classes of street scenes.",
    .source = "Brostow, Fauqueur, Cipolla 2009, Semantic object classes in video",
    .classes = kCamVidClasses,
    .img_suffix = ".png",
    .unlabelled = 11,
};

}  // namespace

using CamVidDataset = KnownSegDataset<kCamVid>;
SEG_REGISTER(Dataset, CamVidDataset);

}  // namespace seg
