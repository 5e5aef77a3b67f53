#include "segcore/ops/resize_class_sums/resize_class_sums.hpp"

#include <torch/library.h>

#include "registry/error.hpp"
#include "segcore/ops/find_operator.hpp"
#include "segcore/ops/label_size.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

using SumsOfClasses = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

SumsOfClasses call_resize_class_sums(const at::Tensor& logits, const at::Tensor& labels,
                                     int64_t activation, bool squared,
                                     std::optional<int64_t> ignore_index, bool align_corners) {
  static const auto op =
      find_operator<decltype(composed_resize_class_sums)>("segcore::resize_class_sums");
  return op.call(logits, labels, activation, squared, ignore_index, align_corners);
}

/// The probabilities are computed again in the backward pass: they are many, and quickly made.
class ClassSumsOfLogits : public torch::autograd::Function<ClassSumsOfLogits> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context,
                                                const at::Tensor& logits, const at::Tensor& labels,
                                                int64_t activation, bool squared,
                                                std::optional<int64_t> ignore_index,
                                                bool align_corners) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const auto [hit, mass, present] =
        call_resize_class_sums(logits, labels, activation, squared, ignore_index, align_corners);
    context->save_for_backward({logits, labels});
    context->saved_data["activation"] = activation;
    context->saved_data["squared"] = squared;
    context->saved_data["ignore_index"] = ignore_index;
    context->saved_data["align_corners"] = align_corners;
    context->mark_non_differentiable({present});
    return {hit, mass, present};
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    SEG_CHECK(!at::GradMode::is_enabled(), "resize_class_sums has no second derivative");
    static const auto op = find_operator<decltype(composed_resize_class_sums_backward)>(
        "segcore::resize_class_sums_backward");
    const auto saved = context->get_saved_variables();
    const auto& options = context->saved_data;
    const auto by_logits = op.call(gradients.at(0), gradients.at(1), saved.at(0), saved.at(1),
                                   options.at("activation").toInt(), options.at("squared").toBool(),
                                   options.at("ignore_index").to<std::optional<int64_t>>(),
                                   options.at("align_corners").toBool());
    return {by_logits, {}, {}, {}, {}, {}};
  }
};

SumsOfClasses autograd_resize_class_sums(const at::Tensor& logits, const at::Tensor& labels,
                                         int64_t activation, bool squared,
                                         std::optional<int64_t> ignore_index, bool align_corners) {
  if (at::GradMode::is_enabled() && logits.requires_grad()) {
    const auto out =
        ClassSumsOfLogits::apply(logits, labels, activation, squared, ignore_index, align_corners);
    return {out[0], out[1], out[2]};
  }
  const at::AutoDispatchBelowADInplaceOrView below;
  return call_resize_class_sums(logits, labels, activation, squared, ignore_index, align_corners);
}

at::Tensor probabilities(const at::Tensor& x, int64_t activation) {
  switch (static_cast<LogitActivation>(activation)) {
    case LogitActivation::kSoftmax:
      return x.softmax(1);
    case LogitActivation::kSigmoid:
      return x.sigmoid();
    case LogitActivation::kNone:
      return x;
  }
  throw Error(text("resize_class_sums: no activation ", activation));
}

/// Which pixels are in the sums, of the shape of labels and the type of probabilities.
at::Tensor counted(const at::Tensor& labels, std::optional<int64_t> ignore_index,
                   const at::Tensor& probs) {
  return ignore_index ? (labels != *ignore_index).to(probs.scalar_type())
                      : at::ones(labels.sizes(), probs.options());
}

/// The labels' classes, 0 where there is none, and where there is one; int64 and bool [N, H*W].
std::pair<at::Tensor, at::Tensor> classes_and_where(const at::Tensor& labels, int64_t classes,
                                                    std::optional<int64_t> ignore_index) {
  auto where = is_class(labels, classes);
  if (ignore_index) where = where & (labels != *ignore_index);
  return {labels.masked_fill(~where, 0).flatten(1), where.flatten(1)};
}

}  // namespace

ClassSums resize_class_sums(const at::Tensor& logits, const at::Tensor& labels,
                            const ClassSumsOptions& options) {
  check_label_operands(logits, labels);
  auto [hit, mass, present] =
      call_resize_class_sums(logits, labels, static_cast<int64_t>(options.activation),
                             options.squared, options.ignore_index, options.align_corners);
  return {hit, mass, present};
}

SumsOfClasses composed_resize_class_sums(const at::Tensor& logits, const at::Tensor& labels,
                                         int64_t activation, bool squared,
                                         std::optional<int64_t> ignore_index, bool align_corners) {
  const auto probs = probabilities(at_label_size(logits, labels, align_corners), activation);
  const auto [index, where] = classes_and_where(labels, logits.size(1), ignore_index);
  const auto flat = probs.flatten(2);  // [N, C, H*W]
  const auto chosen = flat.gather(1, index.unsqueeze(1)).squeeze(1).masked_fill(~where, 0);
  // In double, as they are added one by one.
  const auto zeros = at::zeros({logits.size(0), logits.size(1)}, chosen.options());
  const auto hit = zeros.to(at::kDouble).scatter_add(1, index, chosen.to(at::kDouble));
  const auto present = zeros.to(at::kLong).scatter_add(1, index, where.to(at::kLong));
  const auto mass = ((squared ? flat.square() : flat) *
                     counted(labels, ignore_index, probs).flatten(1).unsqueeze(1))
                        .sum(2);
  return {hit.to(probs.scalar_type()), mass, present};
}

at::Tensor composed_resize_class_sums_backward(const at::Tensor& grad_hit,
                                               const at::Tensor& grad_mass,
                                               const at::Tensor& logits, const at::Tensor& labels,
                                               int64_t activation, bool squared,
                                               std::optional<int64_t> ignore_index,
                                               bool align_corners) {
  const auto x = at_label_size(logits, labels, align_corners);
  const auto probs = probabilities(x, activation).flatten(2);
  const auto [index, where] = classes_and_where(labels, logits.size(1), ignore_index);
  auto gradient = grad_mass.unsqueeze(2) *
                  counted(labels, ignore_index, probs).flatten(1).unsqueeze(1);  // [N, C, H*W]
  if (squared) gradient = gradient * (2 * probs);
  gradient.scatter_add_(1, index.unsqueeze(1), (grad_hit.gather(1, index) * where).unsqueeze(1));
  if (static_cast<LogitActivation>(activation) == LogitActivation::kSoftmax) {
    gradient = probs * (gradient - (probs * gradient).sum(1, /*keepdim=*/true));
  } else if (static_cast<LogitActivation>(activation) == LogitActivation::kSigmoid) {
    gradient = gradient * (probs * (1 - probs));
  }
  return from_label_size(gradient.view_as(x), logits, align_corners);
}

TORCH_LIBRARY_FRAGMENT(segcore, m) {
  m.def(
      "resize_class_sums(Tensor logits, Tensor labels, int activation, bool squared, "
      "int? ignore_index, bool align_corners) -> (Tensor hit, Tensor mass, Tensor present)");
  m.def(
      "resize_class_sums_backward(Tensor grad_hit, Tensor grad_mass, Tensor logits, Tensor labels, "
      "int activation, bool squared, int? ignore_index, bool align_corners) -> Tensor");
}

TORCH_LIBRARY_IMPL(segcore, CompositeExplicitAutograd, m) {
  m.impl("resize_class_sums", &composed_resize_class_sums);
  m.impl("resize_class_sums_backward", &composed_resize_class_sums_backward);
}

TORCH_LIBRARY_IMPL(segcore, Autograd, m) {
  m.impl("resize_class_sums", &autograd_resize_class_sums);
}

}  // namespace seg
