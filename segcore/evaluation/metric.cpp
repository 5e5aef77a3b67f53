#include "segcore/evaluation/metric.hpp"

#include "registry/error.hpp"

namespace seg {

const at::Tensor& class_ids_of(const Prediction& prediction, const PackedSample& sample) {
  if (prediction.ids.defined()) return prediction.ids;
  throw DataError(text(sample.meta.img_path,
                       ": the model estimates depth, but the metric measures classes: use "
                       "DepthMetric"));
}

}  // namespace seg
