#include "segcore/ops/resize_focal_loss/resize_focal_loss.hpp"

#include <torch/library.h>

#include "registry/error.hpp"
#include "segcore/ops/find_operator.hpp"
#include "segcore/ops/label_size.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

using OptionalTensor = std::optional<at::Tensor>;
using LossAndGradient = std::tuple<at::Tensor, at::Tensor>;

LossAndGradient call_resize_focal_loss(const at::Tensor& logits, const at::Tensor& labels,
                                       const OptionalTensor& absent_weight,
                                       const OptionalTensor& present_weight,
                                       const OptionalTensor& pixel_weight, double gamma,
                                       int64_t ignore_index, bool align_corners,
                                       bool with_gradient) {
  static const auto op =
      find_operator<decltype(composed_resize_focal_loss)>("segcore::resize_focal_loss");
  return op.call(logits, labels, absent_weight, present_weight, pixel_weight, gamma, ignore_index,
                 align_corners, with_gradient);
}

/// The gradient is computed with the loss, of which it is a multiple: weights and labels are known.
class FocalLossOfLogits : public torch::autograd::Function<FocalLossOfLogits> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context,
                                                const at::Tensor& logits, const at::Tensor& labels,
                                                const OptionalTensor& absent_weight,
                                                const OptionalTensor& present_weight,
                                                const OptionalTensor& pixel_weight, double gamma,
                                                int64_t ignore_index, bool align_corners) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const auto [loss, gradient] =
        call_resize_focal_loss(logits, labels, absent_weight, present_weight, pixel_weight, gamma,
                               ignore_index, align_corners, /*with_gradient=*/true);
    context->save_for_backward({gradient});
    return {loss};
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    SEG_CHECK(!at::GradMode::is_enabled(), "resize_focal_loss has no second derivative");
    const auto by_logits = context->get_saved_variables().at(0);
    return {by_logits * gradients.at(0), {}, {}, {}, {}, {}, {}, {}};
  }
};

LossAndGradient autograd_resize_focal_loss(const at::Tensor& logits, const at::Tensor& labels,
                                           const OptionalTensor& absent_weight,
                                           const OptionalTensor& present_weight,
                                           const OptionalTensor& pixel_weight, double gamma,
                                           int64_t ignore_index, bool align_corners,
                                           bool with_gradient) {
  if (with_gradient && at::GradMode::is_enabled() && logits.requires_grad()) {
    const auto out = FocalLossOfLogits::apply(logits, labels, absent_weight, present_weight,
                                              pixel_weight, gamma, ignore_index, align_corners);
    return {out[0], at::Tensor()};
  }
  const at::AutoDispatchBelowADInplaceOrView below;
  return call_resize_focal_loss(logits, labels, absent_weight, present_weight, pixel_weight, gamma,
                                ignore_index, align_corners, with_gradient);
}

/// The loss of classes by what their probability should not be, and its slope.
at::Tensor focal_value(const at::Tensor& x, double gamma) {
  return -x.sigmoid().pow(gamma) * at::log_sigmoid(-x);
}
at::Tensor focal_slope(const at::Tensor& x, double gamma) {
  const auto p = x.sigmoid();
  return p.pow(gamma) * (p - gamma * (1 - p) * at::log_sigmoid(-x));
}

/// Logits at full size with their labels.
struct FullSize {
  at::Tensor x;                ///< [N, C, H, W]
  at::Tensor valid, present;   ///< bool [N, H, W]: not ignored; and with a class
  at::Tensor channel, chosen;  ///< [N, H, W]: the label's class, else 0, and its logit
  at::Tensor absent_weight, present_weight;  ///< [C, 1, 1] and [N, H, W], or scalars

  FullSize(const at::Tensor& logits, const at::Tensor& labels, const OptionalTensor& absent,
           const OptionalTensor& by_class, int64_t ignore_index, bool align_corners)
      : x(at_label_size(logits, labels, align_corners)),
        valid((labels >= 0) & (labels != ignore_index)),
        present(valid & (labels < logits.size(1))),
        channel(labels.masked_fill(~present, 0)),
        chosen(x.gather(1, channel.unsqueeze(1)).squeeze(1)),
        absent_weight(absent ? absent->to(x.scalar_type()).view({-1, 1, 1})
                             : at::ones({}, x.options())),
        present_weight(
            by_class
                ? by_class->to(x.scalar_type()).index_select(0, channel.flatten()).view_as(channel)
                : at::ones({}, x.options())) {}

  at::Tensor pixels(double gamma) const {
    const auto absent = focal_value(x, gamma) * absent_weight;
    const auto own = absent.gather(1, channel.unsqueeze(1)).squeeze(1);
    const auto exchange = focal_value(-chosen, gamma) * present_weight - own;
    return (absent.sum(1) + exchange.masked_fill(~present, 0)).masked_fill(~valid, 0);
  }
  at::Tensor gradient(double gamma) const {
    auto out = focal_slope(x, gamma) * absent_weight;
    const auto own = out.gather(1, channel.unsqueeze(1)).squeeze(1);
    const auto of_label = -focal_slope(-chosen, gamma) * present_weight;
    out.scatter_(1, channel.unsqueeze(1), at::where(present, of_label, own).unsqueeze(1));
    return out.masked_fill_(~valid.unsqueeze(1), 0);
  }
};

}  // namespace

at::Tensor resize_focal_loss(const at::Tensor& logits, const at::Tensor& labels,
                             const at::Tensor& pixel_weight, const FocalOptions& options) {
  check_label_operands(logits, labels, {options.absent_weight, options.present_weight},
                       pixel_weight);
  const bool learns = at::GradMode::is_enabled() && logits.requires_grad();
  return std::get<0>(call_resize_focal_loss(logits, labels, if_defined(options.absent_weight),
                                            if_defined(options.present_weight),
                                            if_defined(pixel_weight), options.gamma,
                                            options.ignore_index, options.align_corners, learns));
}

at::Tensor resize_pixel_focal_loss(const at::Tensor& logits, const at::Tensor& labels,
                                   const FocalOptions& options) {
  static const auto op =
      find_operator<decltype(composed_resize_pixel_focal_loss)>("segcore::resize_pixel_focal_loss");
  check_label_operands(logits, labels, {options.absent_weight, options.present_weight});
  const at::NoGradGuard no_grad;
  return op.call(logits, labels, if_defined(options.absent_weight),
                 if_defined(options.present_weight), options.gamma, options.ignore_index,
                 options.align_corners);
}

LossAndGradient composed_resize_focal_loss(const at::Tensor& logits, const at::Tensor& labels,
                                           const OptionalTensor& absent_weight,
                                           const OptionalTensor& present_weight,
                                           const OptionalTensor& pixel_weight, double gamma,
                                           int64_t ignore_index, bool align_corners,
                                           bool with_gradient) {
  const FullSize full(logits, labels, absent_weight, present_weight, ignore_index, align_corners);
  auto losses = full.pixels(gamma);
  if (pixel_weight) losses = losses * *pixel_weight;
  if (!with_gradient) return {losses.sum(), at::Tensor()};
  auto gradient = full.gradient(gamma);
  if (pixel_weight) gradient.mul_(pixel_weight->unsqueeze(1));
  return {losses.sum(), from_label_size(gradient, logits, align_corners)};
}

at::Tensor composed_resize_pixel_focal_loss(const at::Tensor& logits, const at::Tensor& labels,
                                            const OptionalTensor& absent_weight,
                                            const OptionalTensor& present_weight, double gamma,
                                            int64_t ignore_index, bool align_corners) {
  return FullSize(logits, labels, absent_weight, present_weight, ignore_index, align_corners)
      .pixels(gamma);
}

TORCH_LIBRARY_FRAGMENT(segcore, m) {
  m.def(
      "resize_focal_loss(Tensor logits, Tensor labels, Tensor? absent_weight, "
      "Tensor? present_weight, Tensor? pixel_weight, float gamma, int ignore_index, "
      "bool align_corners, bool with_gradient) -> (Tensor loss, Tensor gradient)");
  m.def(
      "resize_pixel_focal_loss(Tensor logits, Tensor labels, Tensor? absent_weight, "
      "Tensor? present_weight, float gamma, int ignore_index, bool align_corners) -> Tensor");
}

TORCH_LIBRARY_IMPL(segcore, CompositeExplicitAutograd, m) {
  m.impl("resize_focal_loss", &composed_resize_focal_loss);
  m.impl("resize_pixel_focal_loss", &composed_resize_pixel_focal_loss);
}

TORCH_LIBRARY_IMPL(segcore, Autograd, m) {
  m.impl("resize_focal_loss", &autograd_resize_focal_loss);
}

}  // namespace seg
