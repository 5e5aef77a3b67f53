#include "segcore/evaluation/class_counts.hpp"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include "registry/error.hpp"
#include "segcore/ops/cuda_kernels.hpp"

namespace seg {
namespace {

/// The three rows of counts.
struct ClassRows {
  int64_t* both;
  int64_t* prediction;
  int64_t* label;
};

/// Neighbours are mostly alike, so runs of equal pixels are counted and added at once.
template <class L>
int64_t count_class_runs(const int64_t* prediction, const L* label, int64_t n, int64_t classes,
                         int64_t ignore, const ClassRows& rows) {
  int64_t strange = -1;
  const auto place = [classes](int64_t v) { return v >= 0 && v < classes ? v : classes; };
  for (int64_t i = 0; i < n;) {
    const int64_t p = prediction[i];
    const L l = label[i];
    int64_t j = i + 1;
    while (j < n && prediction[j] == p && label[j] == l) ++j;
    const int64_t run = j - i, want = static_cast<int64_t>(l);
    i = j;
    if (want == ignore) continue;
    if (place(want) == classes && strange < 0) strange = want;
    rows.prediction[place(p)] += run;
    rows.label[place(want)] += run;
    if (p == want) rows.both[place(p)] += run;
  }
  return strange;
}

}  // namespace

int64_t count_classes_(at::Tensor& counts, const at::Tensor& prediction, const at::Tensor& labels,
                       int64_t ignore_index) {
  SEG_CHECK(counts.dim() == 2 && counts.size(0) == 3 && counts.is_contiguous(),
            "expected counts [3, classes + 1], got ", counts.sizes());
  const int64_t slots = counts.size(1);
  const at::Tensor p = prediction.to(at::kLong).contiguous();
  at::Tensor l = labels.cpu().contiguous();
  if (l.scalar_type() != at::kByte) l = l.to(at::kLong);
  auto* base = counts.data_ptr<int64_t>();
  const ClassRows rows{base, base + slots, base + 2 * slots};
  const auto* from = p.const_data_ptr<int64_t>();
  return l.scalar_type() == at::kByte ? count_class_runs(from, l.const_data_ptr<uint8_t>(),
                                                         p.numel(), slots - 1, ignore_index, rows)
                                      : count_class_runs(from, l.const_data_ptr<int64_t>(),
                                                         p.numel(), slots - 1, ignore_index, rows);
}

at::Tensor class_histogram(const at::Tensor& prediction, const at::Tensor& labels, int64_t classes,
                           int64_t ignore_index) {
  if (const CudaKernels* kernels = cuda_kernels_for(prediction)) {
    return kernels->class_histogram(prediction, labels, classes, ignore_index);
  }
  return composed_class_histogram(prediction, labels, classes, ignore_index);
}

at::Tensor composed_class_histogram(const at::Tensor& prediction, const at::Tensor& labels,
                                    int64_t classes, int64_t ignore_index) {
  const at::Tensor p = prediction.to(at::kLong).flatten();
  const at::Tensor l = labels.to(p.device(), /*non_blocking=*/true).to(at::kLong).flatten();
  const int64_t slots = classes + 2;  // the last is for pixels that do not count
  const at::Tensor ignored = l.eq(ignore_index);
  const auto place = [&](const at::Tensor& v) {
    return v.masked_fill(v.lt(0).logical_or(v.ge(classes)), classes)
        .masked_fill(ignored, slots - 1);
  };
  const at::Tensor pp = place(p), pl = place(l);
  const at::Tensor both = pp.masked_fill(p.ne(l), slots - 1);
  const at::Tensor histogram =
      at::bincount(at::cat({both, pp + slots, pl + 2 * slots}), {}, 3 * slots);
  return histogram.view({3, slots}).narrow(1, 0, classes + 1).contiguous();
}

}  // namespace seg
