#include "segcore/data/datasets/base_cd_dataset.hpp"

namespace seg {

Schema<BaseCDDatasetParams> BaseCDDataset::schema() {
  return cd_dataset_schema<Params>(
      "Two images of one place a sample, and annotations of what changed: files of one name in "
      "three folders.");
}

SEG_REGISTER(Dataset, BaseCDDataset);

}  // namespace seg
