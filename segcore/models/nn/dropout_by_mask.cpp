#include "segcore/models/nn/dropout_by_mask.hpp"

#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/TensorIterator.h>

#include "segcore/memory/recomputation.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

/// Where the values of a loop lie, and how far apart, in bytes.
struct MaskedLoop {
  char* out;
  const char *x, *mask;
  int64_t out_step, x_step, mask_step;
};

template <class T>
void scale_masked(const MaskedLoop& at, int64_t n, T of_kept) {
  using Wide = at::opmath_type<T>;
  const Wide factor(of_kept);
  const auto scaled = [factor](T x, bool kept) { return T(Wide(x) * (Wide(kept) * factor)); };
  if (at.out_step == sizeof(T) && at.x_step == sizeof(T) && at.mask_step == sizeof(bool)) {
    auto* const out = reinterpret_cast<T*>(at.out);
    const auto* const x = reinterpret_cast<const T*>(at.x);
    const auto* const mask = reinterpret_cast<const bool*>(at.mask);
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) out[i] = scaled(x[i], mask[i]);
    return;
  }
  for (int64_t i = 0; i < n; ++i) {
    *reinterpret_cast<T*>(at.out + i * at.out_step) =
        scaled(*reinterpret_cast<const T*>(at.x + i * at.x_step),
               *reinterpret_cast<const bool*>(at.mask + i * at.mask_step));
  }
}

/// The factor as LibTorch rounds it.
template <class T>
T factor_of_kept(double keep) {
  using Wide = at::opmath_type<T>;
  return T(Wide(1) / Wide(keep));
}

at::Tensor scaled_by_mask(const at::Tensor& x, const at::Tensor& mask, double keep) {
  at::Tensor out;
  auto iterator = at::TensorIteratorConfig()
                      .add_output(out)
                      .add_const_input(x)
                      .add_const_input(mask)
                      .check_all_same_dtype(false)
                      .declare_static_dtype(x.scalar_type())
                      .build();
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, x.scalar_type(), "dropout_by_mask", [&] {
        const auto factor = factor_of_kept<scalar_t>(keep);
        iterator.for_each([factor](char** data, const int64_t* steps, int64_t n) {
          scale_masked<scalar_t>({data[0], data[1], data[2], steps[0], steps[1], steps[2]}, n,
                                 factor);
        });
      });
  return iterator.output();
}

class DropoutByMask : public torch::autograd::Function<DropoutByMask> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x,
                            const at::Tensor& mask, double keep) {
    ctx->save_for_backward({mask});
    ctx->saved_data["keep"] = keep;
    return scaled_by_mask(x, mask, keep);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const auto mask = ctx->get_saved_variables()[0];
    return {DropoutByMask::apply(grads[0], mask, ctx->saved_data["keep"].toDouble()), {}, {}};
  }
};

}  // namespace

at::Tensor dropout_by_mask(const at::Tensor& x, const at::Tensor& mask, double keep) {
  at::Tensor out = DropoutByMask::apply(x, mask, keep);
  recomputable_as(out, {x, mask},
                  [keep](const auto& in) { return scaled_by_mask(in[0], in[1], keep); });
  return out;
}

}  // namespace seg
