/// LIP: the parts and clothes of persons.
#include "segcore/data/datasets/known_dataset.hpp"

namespace seg {
namespace {

/// The classes of the single-person track.
constexpr KnownClass kLipClasses[] = {
    {"Background", {0, 0, 0}},    {"Hat", {128, 0, 0}},          {"Hair", {255, 0, 0}},
    {"Glove", {0, 85, 0}},        {"Sunglasses", {170, 0, 51}},  {"UpperClothes", {255, 85, 0}},
    {"Dress", {0, 0, 85}},        {"Coat", {0, 119, 221}},       {"Socks", {85, 85, 0}},
    {"Pants", {0, 85, 85}},       {"Jumpsuits", {85, 51, 0}},    {"Scarf", {52, 86, 128}},
    {"Skirt", {0, 128, 0}},       {"Face", {0, 0, 255}},         {"Left-arm", {51, 170, 221}},
    {"Right-arm", {0, 255, 255}}, {"Left-leg", {85, 255, 170}},  {"Right-leg", {170, 255, 85}},
    {"Left-shoe", {255, 255, 0}}, {"Right-shoe", {255, 170, 0}},
};

constexpr KnownDataset kLip{
    .summary = "LIP, look into person: 19 parts and clothes of persons, and the background.",
    .source = "Gong et al. 2017, Look into person, arXiv:1703.05446",
    .classes = kLipClasses,
};

}  // namespace

using LIPDataset = KnownSegDataset<kLip>;
SEG_REGISTER(Dataset, LIPDataset);

}  // namespace seg
