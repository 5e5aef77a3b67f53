#include "segcore/ops/class_histogram/class_histogram.hpp"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <torch/library.h>

#include "registry/error.hpp"
#include "segcore/ops/find_operator.hpp"

namespace seg {
namespace {

/// Neighbours are mostly equal, so runs of equal pixels are counted and added at once.
/// \param counts  [3, classes + 1]
template <class L>
void count_class_runs(const int64_t* prediction, const L* label, int64_t n, int64_t classes,
                      int64_t ignore, int64_t* counts) {
  int64_t* both = counts;
  int64_t* predicted = both + classes + 1;
  int64_t* labelled = predicted + classes + 1;
  const auto place = [classes](int64_t v) { return v >= 0 && v < classes ? v : classes; };
  for (int64_t i = 0; i < n;) {
    const int64_t p = prediction[i];
    const L l = label[i];
    int64_t j = i + 1;
    while (j < n && prediction[j] == p && label[j] == l) ++j;
    const int64_t run = j - i, want = static_cast<int64_t>(l);
    i = j;
    if (want == ignore) continue;
    predicted[place(p)] += run;
    labelled[place(want)] += run;
    if (p == want) both[place(p)] += run;
  }
}

at::Tensor cpu_class_histogram(const at::Tensor& prediction, const at::Tensor& labels,
                               int64_t classes, int64_t ignore_index) {
  SEG_CHECK(prediction.numel() == labels.numel(), "labels ", labels.sizes(), " for predictions ",
            prediction.sizes());
  const at::Tensor p = prediction.to(at::kLong).contiguous();
  at::Tensor l = labels.contiguous();
  if (l.scalar_type() != at::kByte) l = l.to(at::kLong);
  at::Tensor counts = at::zeros({3, classes + 1}, p.options());
  const auto* from = p.const_data_ptr<int64_t>();
  auto* to = counts.mutable_data_ptr<int64_t>();
  if (l.scalar_type() == at::kByte) {
    count_class_runs(from, l.const_data_ptr<uint8_t>(), p.numel(), classes, ignore_index, to);
  } else {
    count_class_runs(from, l.const_data_ptr<int64_t>(), p.numel(), classes, ignore_index, to);
  }
  return counts;
}

}  // namespace

at::Tensor class_histogram(const at::Tensor& prediction, const at::Tensor& labels, int64_t classes,
                           int64_t ignore_index) {
  static const auto op = find_operator<decltype(class_histogram)>("segcore::class_histogram");
  return op.call(prediction, labels, classes, ignore_index);
}

at::Tensor composed_class_histogram(const at::Tensor& prediction, const at::Tensor& labels,
                                    int64_t classes, int64_t ignore_index) {
  const at::Tensor p = prediction.to(at::kLong).flatten();
  const at::Tensor l = labels.to(p.device(), /*non_blocking=*/true).to(at::kLong).flatten();
  const int64_t slots = classes + 2;  // the last one collects ignored pixels
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

TORCH_LIBRARY_FRAGMENT(segcore, m) {
  m.def(
      "class_histogram(Tensor prediction, Tensor labels, int classes, int ignore_index) -> Tensor");
}

TORCH_LIBRARY_IMPL(segcore, CompositeExplicitAutograd, m) {
  m.impl("class_histogram", &composed_class_histogram);
}

TORCH_LIBRARY_IMPL(segcore, CPU, m) { m.impl("class_histogram", &cpu_class_histogram); }

}  // namespace seg
