/// LEVIR-CD: annotations hold 0 and 1, or 0 and 255 as published, which label_map: {255: 1} reads.
#include "segcore/data/datasets/base_cd_dataset.hpp"
#include "segcore/data/datasets/known_dataset.hpp"

namespace seg {
namespace {

constexpr KnownClass kLevirCdClasses[] = {
    {"background", {0, 0, 0}},
    {"changed", {255, 255, 255}},
};

}  // namespace

struct LEVIRCDDatasetParams : BaseCDDatasetParams {
  LEVIRCDDatasetParams() {
    img_suffix = std::string(".png");
    img_suffix2 = std::string(".png");
  }
};

class LEVIRCDDataset final : public BaseCDDataset {
 public:
  using Params = LEVIRCDDatasetParams;
  static Schema<Params> schema() {
    return cd_dataset_schema<Params>("LEVIR-CD: buildings that were built or torn down.")
        .source(
            "Chen and Shi 2020, A spatial-temporal attention-based method and a new dataset for "
            "remote sensing image change detection");
  }
  static DatasetFacts facts(const Params& p) { return facts_of(p, known_classes(kLevirCdClasses)); }
  explicit LEVIRCDDataset(const Params& p) : BaseCDDataset(p, known_classes(kLevirCdClasses)) {}
};
SEG_REGISTER(Dataset, LEVIRCDDataset);

}  // namespace seg
