#include "segcore/ops/resize_cross_entropy/resize_cross_entropy.hpp"

#include <torch/library.h>

#include <optional>
#include <tuple>

#include "registry/error.hpp"
#include "segcore/ops/find_operator.hpp"
#include "segcore/ops/label_size.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

using OptionalTensor = std::optional<at::Tensor>;
using CrossEntropySums = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

CrossEntropySums call_resize_cross_entropy(const at::Tensor& logits, const at::Tensor& labels,
                                           const OptionalTensor& class_weight,
                                           const OptionalTensor& pixel_weight, int64_t ignore_index,
                                           bool align_corners, bool with_gradient) {
  static const auto op =
      find_operator<decltype(composed_resize_cross_entropy)>("segcore::resize_cross_entropy");
  return op.call(logits, labels, class_weight, pixel_weight, ignore_index, align_corners,
                 with_gradient);
}

/// The gradient is computed with the loss, of which it is a multiple: weights and labels are known.
class CrossEntropyOfLogits : public torch::autograd::Function<CrossEntropyOfLogits> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context,
                                                const at::Tensor& logits, const at::Tensor& labels,
                                                const OptionalTensor& class_weight,
                                                const OptionalTensor& pixel_weight,
                                                int64_t ignore_index, bool align_corners) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const auto [loss, weight, counts, gradient] =
        call_resize_cross_entropy(logits, labels, class_weight, pixel_weight, ignore_index,
                                  align_corners, /*with_gradient=*/true);
    context->save_for_backward({gradient});
    context->mark_non_differentiable({weight, counts});
    return {loss, weight, counts};
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    SEG_CHECK(!at::GradMode::is_enabled(), "resize_cross_entropy has no second derivative");
    const auto by_logits = context->get_saved_variables().at(0);
    return {by_logits * gradients.at(0), {}, {}, {}, {}, {}};
  }
};

CrossEntropySums autograd_resize_cross_entropy(const at::Tensor& logits, const at::Tensor& labels,
                                               const OptionalTensor& class_weight,
                                               const OptionalTensor& pixel_weight,
                                               int64_t ignore_index, bool align_corners,
                                               bool with_gradient) {
  if (with_gradient && at::GradMode::is_enabled() && logits.requires_grad()) {
    const auto out = CrossEntropyOfLogits::apply(logits, labels, class_weight, pixel_weight,
                                                 ignore_index, align_corners);
    return {out[0], out[1], out[2], at::Tensor()};
  }
  const at::AutoDispatchBelowADInplaceOrView below;
  return call_resize_cross_entropy(logits, labels, class_weight, pixel_weight, ignore_index,
                                   align_corners, with_gradient);
}

/// Where there is a label of one of the classes.
at::Tensor labelled(const at::Tensor& labels, int64_t ignore_index, int64_t classes) {
  return is_class(labels, classes) & (labels != ignore_index);
}

}  // namespace

ResizedCrossEntropy resize_cross_entropy(const at::Tensor& logits, const at::Tensor& labels,
                                         const at::Tensor& class_weight,
                                         const at::Tensor& pixel_weight, int64_t ignore_index,
                                         bool align_corners) {
  check_label_operands(logits, labels, {class_weight}, pixel_weight);
  const bool learns = at::GradMode::is_enabled() && logits.requires_grad();
  auto [loss, weight, counts, unused] =
      call_resize_cross_entropy(logits, labels, if_defined(class_weight), if_defined(pixel_weight),
                                ignore_index, align_corners, learns);
  return {loss, weight, counts};
}

at::Tensor resize_pixel_cross_entropy(const at::Tensor& logits, const at::Tensor& labels,
                                      int64_t ignore_index, bool align_corners) {
  static const auto op = find_operator<decltype(composed_resize_pixel_cross_entropy)>(
      "segcore::resize_pixel_cross_entropy");
  check_label_operands(logits, labels);
  const at::NoGradGuard no_grad;
  return op.call(logits, labels, ignore_index, align_corners);
}

at::Tensor composed_resize_pixel_cross_entropy(const at::Tensor& logits, const at::Tensor& labels,
                                               int64_t ignore_index, bool align_corners) {
  const auto valid = labelled(labels, ignore_index, logits.size(1));
  return at::cross_entropy_loss(at_label_size(logits, labels, align_corners),
                                labels.masked_fill(~valid, -100), {}, at::Reduction::None, -100);
}

CrossEntropySums composed_resize_cross_entropy(const at::Tensor& logits, const at::Tensor& labels,
                                               const OptionalTensor& class_weight,
                                               const OptionalTensor& pixel_weight,
                                               int64_t ignore_index, bool align_corners,
                                               bool with_gradient) {
  const auto x = at_label_size(logits, labels, align_corners);
  const auto valid = labelled(labels, ignore_index, logits.size(1));
  const auto index = labels.masked_fill(~valid, 0);
  auto weight = valid.to(x.scalar_type());
  if (class_weight) weight = weight * class_weight->index_select(0, index.flatten()).view_as(index);
  const auto total = weight.sum();
  if (pixel_weight) weight = weight * *pixel_weight;
  const auto log_p = x.log_softmax(1);
  const auto loss = -(log_p.gather(1, index.unsqueeze(1)).squeeze(1) * weight).sum();
  const auto counts = at::stack({((x.argmax(1) == index) & valid).sum(), valid.sum()});
  if (!with_gradient) return {loss, total, counts, at::Tensor()};
  auto gradient = log_p.exp_();
  gradient.scatter_add_(1, index.unsqueeze(1),
                        at::full({1}, -1, x.options()).expand_as(index.unsqueeze(1)));
  gradient.mul_(weight.unsqueeze(1));
  return {loss, total, counts, from_label_size(gradient, logits, align_corners)};
}

TORCH_LIBRARY_FRAGMENT(segcore, m) {
  m.def(
      "resize_cross_entropy(Tensor logits, Tensor labels, Tensor? class_weight, "
      "Tensor? pixel_weight, int ignore_index, bool align_corners, bool with_gradient) -> "
      "(Tensor loss, Tensor weight, Tensor counts, Tensor gradient)");
  m.def(
      "resize_pixel_cross_entropy(Tensor logits, Tensor labels, int ignore_index, "
      "bool align_corners) -> Tensor");
}

TORCH_LIBRARY_IMPL(segcore, CompositeExplicitAutograd, m) {
  m.impl("resize_cross_entropy", &composed_resize_cross_entropy);
  m.impl("resize_pixel_cross_entropy", &composed_resize_pixel_cross_entropy);
}

TORCH_LIBRARY_IMPL(segcore, Autograd, m) {
  m.impl("resize_cross_entropy", &autograd_resize_cross_entropy);
}

}  // namespace seg
