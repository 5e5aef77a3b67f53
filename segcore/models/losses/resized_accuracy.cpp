#include "segcore/models/resized_accuracy.hpp"

#include "segcore/models/loss.hpp"
#include "segcore/ops/resize_argmax/resize_argmax.hpp"
#include "segcore/precision.hpp"
#include "segcore/torch.hpp"

namespace seg {

at::Tensor resized_accuracy(const at::Tensor& logits, const at::Tensor& labels,
                            int64_t ignore_index, bool align_corners) {
  const at::NoGradGuard no_grad;
  const std::array<int64_t, 2> size{labels.size(1), labels.size(2)};
  const LogitsGeometry geometry{size, size, size, false, false, align_corners};
  const auto x = full_precision(logits.detach());
  std::vector<at::Tensor> predicted;
  for (int64_t n = 0; n < x.size(0); ++n) {
    predicted.push_back(resize_argmax(LogitRows(x[n], geometry), /*threshold=*/0.5));
  }
  const auto valid = labels != ignore_index;
  return accuracy_percent(((at::stack(predicted) == labels) & valid).sum(), valid.sum(),
                          wide_type(x));
}

}  // namespace seg
