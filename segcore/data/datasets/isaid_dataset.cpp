/// iSAID: aerial images cut into patches, annotated with class ids.
#include "segcore/data/datasets/known_dataset.hpp"

namespace seg {
namespace {

/// The background and the 15 classes of DOTA.
constexpr KnownClass kIsaidClasses[] = {
    {"background", {0, 0, 0}},
    {"ship", {0, 0, 63}},
    {"store_tank", {0, 63, 63}},
    {"baseball_diamond", {0, 63, 0}},
    {"tennis_court", {0, 63, 127}},
    {"basketball_court", {0, 63, 191}},
    {"Ground_Track_Field", {0, 63, 255}},
    {"Bridge", {0, 127, 63}},
    {"Large_Vehicle", {0, 127, 127}},
    {"Small_Vehicle", {0, 0, 127}},
    {"Helicopter", {0, 0, 191}},
    {"Swimming_pool", {0, 0, 255}},
    {"Roundabout", {0, 191, 127}},
    {"Soccer_ball_field", {0, 127, 191}},
    {"plane", {0, 127, 255}},
    {"Harbor", {0, 100, 155}},
};

constexpr KnownDataset kIsaid{
    .summary = "iSAID: 15 classes of objects in aerial images and the background.",
    .source = "Waqas Zamir et al. 2019, iSAID, arXiv:1905.12886",
    .classes = kIsaidClasses,
    .img_suffix = ".png",
    .seg_map_suffix = "_instance_color_RGB.png",
};

}  // namespace

using iSAIDDataset = KnownSegDataset<kIsaid>;
SEG_REGISTER(Dataset, iSAIDDataset);

}  // namespace seg
