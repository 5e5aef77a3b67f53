/// Data sets described in DSDL, which only its Python package reads.
#include "segcore/data/datasets/base_seg_dataset.hpp"

namespace seg {

struct DSDLSegDatasetParams : BaseSegDatasetParams {};

class DSDLSegDataset final : public BaseSegDataset {
 public:
  using Params = DSDLSegDatasetParams;
  static Schema<Params> schema() {
    return seg_dataset_schema<Params>("Not supported: data sets described in DSDL.")
        .source("OpenDataLab, Data Set Description Language; MMSegmentation 1.2")
        .accepted("specific_key_path", "of DSDL, which is not read here")
        .accepted("pre_transform", "of DSDL, which is not read here")
        .accepted("used_labels", "of DSDL, which is not read here")
        .validate([](const Params&, Problems& problems) {
          problems.error("type",
                         "only the Python package dsdl reads such data sets. Use BaseSegDataset: "
                         "list an image and its annotation in each line of a text file (ann_file), "
                         "and name the classes (metainfo)");
        });
  }
  explicit DSDLSegDataset(const Params& params) : BaseSegDataset(params) {}
};
SEG_REGISTER(Dataset, DSDLSegDataset);

}  // namespace seg
