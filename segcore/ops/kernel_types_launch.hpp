/// The types by which kernels know those of LibTorch.
#pragma once
#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace seg::cuda {

template <class Scalar>
struct KernelValue {
  using Type = Scalar;
};
template <>
struct KernelValue<at::Half> {
  using Type = __half;
};
template <>
struct KernelValue<at::BFloat16> {
  using Type = __nv_bfloat16;
};

/// Calls `use(Real(), Value())`: the type to compute in, and that of the values in memory.
/// \throws c10::Error for a type that is not floating point.
template <class Use>
void with_kernel_types(at::ScalarType type, const Use& use) {
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, type, "a kernel of segcore", [&] {
    use(at::opmath_type<scalar_t>(), typename KernelValue<scalar_t>::Type());
  });
}

}  // namespace seg::cuda
