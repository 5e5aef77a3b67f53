#include "segcore/ops/label_size.hpp"

#include <ATen/ATen.h>
#include <ATen/OpMathType.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include "registry/error.hpp"
#include "segcore/ops/bilinear_weights.hpp"

namespace seg {

void check_label_operands(const at::Tensor& logits, const at::Tensor& labels,
                          std::initializer_list<at::Tensor> of_class, const at::Tensor& of_pixel) {
  SEG_CHECK(logits.dim() == 4 && labels.dim() == 3 && labels.size(0) == logits.size(0), "labels ",
            labels.sizes(), " do not fit logits ", logits.sizes());
  SEG_CHECK(labels.device() == logits.device(), "labels are on ", labels.device(), ", logits on ",
            logits.device());
  for (const at::Tensor& weight : of_class) {
    if (!weight.defined()) continue;
    SEG_CHECK(weight.dim() == 1 && weight.size(0) == logits.size(1), "weights ", weight.sizes(),
              " do not fit ", logits.size(1), " classes");
    SEG_CHECK(weight.device() == logits.device(), "weights of classes are on ", weight.device());
  }
  if (!of_pixel.defined()) return;
  SEG_CHECK(of_pixel.sizes() == labels.sizes(), "weights ", of_pixel.sizes(), " do not fit labels ",
            labels.sizes());
  SEG_CHECK(of_pixel.device() == logits.device(), "weights of pixels are on ", of_pixel.device());
}

at::Tensor at_label_size(const at::Tensor& logits, const at::Tensor& labels, bool align_corners) {
  const at::IntArrayRef size = labels.sizes().slice(1);
  const auto wide = logits.to(at::toOpMathType(logits.scalar_type()));
  return wide.sizes().slice(2) == size ? wide : at::upsample_bilinear2d(wide, size, align_corners);
}

at::Tensor from_label_size(const at::Tensor& gradient, const at::Tensor& logits,
                           bool align_corners) {
  const auto type = logits.scalar_type();
  if (gradient.sizes() == logits.sizes()) return gradient.to(type);
  // LibTorch's gradient on GPUs is added up in an order that changes from run to run.
  if (gradient.is_cuda() && at::globalContext().deterministicAlgorithms()) {
    return from_label_size_by_products(gradient, logits, align_corners).to(type);
  }
  return at::upsample_bilinear2d_backward(gradient, gradient.sizes().slice(2), logits.sizes(),
                                          align_corners)
      .to(type);
}

at::Tensor from_label_size_by_products(const at::Tensor& gradient, const at::Tensor& logits,
                                       bool align_corners) {
  // In full precision: halves would round the weights.
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const auto weights = [&](int64_t dim) {
    return bilinear_weights(logits.size(dim), gradient.size(dim), std::nullopt, align_corners,
                            gradient.options());
  };
  return at::matmul(weights(2).t(), at::matmul(gradient, weights(3)));
}

at::Tensor is_class(const at::Tensor& labels, int64_t classes) {
  return (labels >= 0) & (labels < classes);
}

}  // namespace seg
