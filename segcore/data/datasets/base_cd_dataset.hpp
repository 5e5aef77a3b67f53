/// Pairs of images with what changed between them: the base of data sets of change detection.
#pragma once
#include <optional>
#include <string>

#include "segcore/data/datasets/base_seg_dataset.hpp"

namespace seg {

struct BaseCDDatasetParams : BaseSegDatasetParams {
  BaseCDDatasetParams() {
    img_suffix2 = std::string(".jpg");
    data_prefix.img_path2 = "";
  }
};

/// The options of BaseCDDataset, with the defaults of P.
template <class P>
Schema<P> cd_dataset_schema(const std::string& summary) {
  return seg_dataset_schema<P>(summary).optional(
      "img_suffix2", &P::img_suffix2,
      "how the names of second images end; the first whose file is there counts, and last the "
      "ending of the first image");
}

class BaseCDDataset : public BaseSegDataset {
 public:
  using Params = BaseCDDatasetParams;
  static Schema<Params> schema();
  explicit BaseCDDataset(const Params& params) : BaseCDDataset(params, KnownClasses{}) {}

 protected:
  BaseCDDataset(const Params& params, const KnownClasses& known) : BaseSegDataset(params, known) {}
};

}  // namespace seg
