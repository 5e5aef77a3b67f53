/// Synapse: slices of CT volumes, in which 8 of the 13 organs are kept.
#include "segcore/data/datasets/known_dataset.hpp"

namespace seg {
namespace {

/// The organs that most papers evaluate.
constexpr KnownClass kSynapseClasses[] = {
    {"background", {0, 0, 0}},    {"aorta", {0, 0, 255}},          {"gallbladder", {0, 255, 0}},
    {"left_kidney", {255, 0, 0}}, {"right_kidney", {0, 255, 255}}, {"liver", {255, 0, 255}},
    {"pancreas", {255, 255, 0}},  {"spleen", {60, 255, 255}},      {"stomach", {240, 240, 240}},
};

constexpr KnownDataset kSynapse{
    .summary = "Synapse multi-organ: 8 organs of the abdomen and the background.",
    .source =
        "Landman et al. 2015, Multi-atlas labeling beyond the cranial vault; "
        "doi:10.7303/syn3193805",
    .classes = kSynapseClasses,
};

}  // namespace

using SynapseDataset = KnownSegDataset<kSynapse>;
SEG_REGISTER(Dataset, SynapseDataset);

}  // namespace seg
