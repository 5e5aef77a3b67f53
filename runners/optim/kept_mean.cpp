#include "runners/optim/kept_mean.hpp"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <cmath>

#include "registry/error.hpp"
#include "runners/optim/dynamic_map.hpp"

namespace seg {
namespace {

constexpr int64_t kLeastCompact = 4096;

/// All values in the order of memory: the same storage.
at::Tensor in_memory_order(const at::Tensor& t) {
  SEG_CHECK(t.is_non_overlapping_and_dense(), "a parameter with gaps in memory: ", t.strides());
  return t.as_strided({t.numel()}, {1});
}

int64_t blocks_of(const at::Tensor& values) {
  return (values.numel() + kMeanBlock - 1) / kMeanBlock;
}

bool lie_alike(const at::Tensor& a, const at::Tensor& b) {
  bool same = a.sizes() == b.sizes();
  for (int64_t i = 0; same && i < a.dim(); ++i) {
    same = a.size(i) <= 1 || a.stride(i) == b.stride(i);
  }
  return same;
}

/// The values of a kept mean as floats of their own, in the order of memory.
at::Tensor float_values(const KeptMean& mean) {
  return in_memory_order(mean.decoded().to(at::kFloat));
}

at::Tensor table_of(const std::vector<float>& values, c10::Device device) {
  return at::tensor(values, at::kFloat).to(device);
}

/// As random_bits of kept_mean_cpu.cpp.
at::Tensor composed_random_bits(int64_t count, uint64_t key, c10::Device device) {
  constexpr int64_t kMask = 0xffffffff;
  at::Tensor x = at::arange(count, at::TensorOptions(at::kLong).device(device));
  x = x.bitwise_xor(static_cast<int64_t>(key & kMask)).bitwise_and_(kMask);
  x = x.bitwise_xor(x.bitwise_right_shift(16));
  x = x.mul(0x7feb352d).add_(static_cast<int64_t>(key >> 32)).bitwise_and_(kMask);
  x = x.bitwise_xor(x.bitwise_right_shift(15));
  x = x.mul(0x846ca68b).bitwise_and_(kMask);
  return x.bitwise_xor(x.bitwise_right_shift(16));
}

/// bfloat16 of floats. \param random  int64, 16 bits
at::Tensor rounded_halves(const at::Tensor& x, const at::Tensor& random) {
  const at::Tensor bits = x.contiguous().view(at::kInt);
  const at::Tensor lifted =
      bits.to(at::kLong).add_(random).to(at::kInt).bitwise_and_(~0xffff).view(at::kFloat);
  return at::where(x.isfinite(), lifted, x).to(at::kBFloat16);
}

struct Codes {
  at::Tensor codes, scales;
};

/// \param x       float, in the order of memory
/// \param random  16 bits each, or one for all: below so many 65536ths of the gap it rounds up
Codes rounded_codes(const at::Tensor& x, const at::Tensor& random, bool squares) {
  const DynamicMap& map = DynamicMap::of(!squares);
  const int64_t blocks = blocks_of(x);
  const at::Tensor padded = at::constant_pad_nd(x, {0, blocks * kMeanBlock - x.numel()});
  const at::Tensor rows = padded.view({blocks, kMeanBlock});
  at::Tensor scales = rows.abs().amax(1);
  // Where nothing but denormal numbers is left, and where a value is not a number or infinite.
  scales = scales.masked_fill(scales.lt(1.17549435e-38f), 0);
  scales = scales.masked_fill(scales.isfinite().logical_not(), std::nanf(""));
  const at::Tensor ratios = rows.abs().div(scales.unsqueeze(1)).nan_to_num(0, 0, 0).clamp_max(1);
  const at::Tensor levels = table_of(map.levels, x.device());
  const at::Tensor floor = at::searchsorted(levels, ratios, false, /*right=*/true).sub_(1);
  const at::Tensor part =
      ratios.sub(levels.index_select(0, floor.flatten()).view_as(floor))
          .mul(table_of(map.per_gap, x.device()).index_select(0, floor.flatten()).view_as(floor));
  const at::Tensor chance =
      random.dim() == 0
          ? random
          : at::constant_pad_nd(random, {0, padded.numel() - x.numel()}).view_as(rows);
  at::Tensor level = floor.add(chance.lt(part.mul(65536).floor()));
  if (squares) level = at::maximum(level, ratios.gt(0).to(at::kLong));
  at::Tensor code = at::where(rows.lt(0), level.neg(), level).add_(map.zero).clamp_min_(0);
  code = code.flatten().slice(0, 0, x.numel()).to(at::kByte);
  return {code, scales};
}

/// Rounds new means into the tensors of a kept one.
void composed_keep(const KeptMean& kept, const at::Tensor& values, const at::Tensor& random) {
  if (!kept.scales.defined()) {
    in_memory_order(kept.values).copy_(rounded_halves(values, random));
    return;
  }
  const Codes rounded = rounded_codes(values, random, kept.squares);
  in_memory_order(kept.values).copy_(rounded.codes);
  kept.scales.copy_(rounded.scales);
}

}  // namespace

StateDtype state_dtype_of(const std::string& name) {
  for (const auto dtype : {StateDtype::kFloat32, StateDtype::kBfloat16, StateDtype::kInt8}) {
    if (name == name_of(dtype)) return dtype;
  }
  throw CheckpointError(
      text("the optimizer's states have the type ", name, ", not float32, bfloat16 or int8"));
}

const char* name_of(StateDtype dtype) {
  switch (dtype) {
    case StateDtype::kBfloat16:
      return "bfloat16";
    case StateDtype::kInt8:
      return "int8";
    case StateDtype::kFloat32:
      break;
  }
  return "float32";
}

bool has_compact_state(const at::Tensor& param, StateDtype dtype) {
  return dtype != StateDtype::kFloat32 && param.scalar_type() == at::kFloat &&
         param.numel() >= kLeastCompact;
}

KeptMean KeptMean::zeros(const at::Tensor& param, StateDtype dtype, bool squares) {
  KeptMean out;
  out.squares = squares;
  if (dtype == StateDtype::kBfloat16) {
    out.values = at::zeros_like(param, param.options().dtype(at::kBFloat16));
  } else {
    out.values = at::empty_like(param, param.options().dtype(at::kByte))
                     .fill_(DynamicMap::of(!squares).zero);
    out.scales = at::zeros({blocks_of(param)}, param.options());
  }
  return out;
}

bool KeptMean::fits() const {
  return values.scalar_type() == at::kByte && values.is_non_overlapping_and_dense() &&
         scales.scalar_type() == at::kFloat && scales.dim() == 1 &&
         scales.numel() == blocks_of(values);
}

KeptMean KeptMean::converted(const at::Tensor& param, StateDtype dtype) const {
  KeptMean out = zeros(param, dtype, squares);
  if (dtype == StateDtype::kBfloat16) {
    out.values.copy_(decoded());
    return out;
  }
  // The blocks of codes follow the order of memory.
  if (scales.defined() && lie_alike(values, param)) {
    out.values.copy_(values);
    out.scales.copy_(scales);
    return out;
  }
  const at::Tensor laid_out = at::empty_like(param).copy_(decoded());
  const Codes rounded = rounded_codes(
      in_memory_order(laid_out), at::full({}, 0x8000, param.options().dtype(at::kLong)), squares);
  in_memory_order(out.values).copy_(rounded.codes);
  out.scales.copy_(rounded.scales);
  return out;
}

at::Tensor KeptMean::decoded() const {
  if (!scales.defined()) return values;
  at::Tensor out = at::empty_like(values, values.options().dtype(at::kFloat));
  const at::Tensor map = table_of(DynamicMap::of(!squares).values, values.device());
  in_memory_order(out).copy_(
      map.index_select(0, in_memory_order(values).to(at::kLong))
          .mul_(scales.repeat_interleave(kMeanBlock).slice(0, 0, values.numel())));
  return out;
}

uint64_t rounding_key(int64_t parameter, int64_t update) {
  // Two rounds of splitmix64 (Steele et al. 2014): neighbouring keys have nothing in common.
  uint64_t x = static_cast<uint64_t>(update);
  for (const uint64_t add : {static_cast<uint64_t>(parameter), uint64_t{0}}) {
    x += 0x9e3779b97f4a7c15u * (add + 1);
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    x ^= x >> 31;
  }
  return x;
}

void composed_adam_step_(const at::Tensor& param, const at::Tensor& grad, const KeptMean& mean,
                         const KeptMean& square, const KeptMean* largest, const AdamStep& step,
                         uint64_t key) {
  at::Tensor p = in_memory_order(param);
  at::Tensor g = in_memory_order(grad);
  if (step.maximize) g = g.neg();
  if (step.decoupled_weight_decay) {
    p.mul_(1 - step.lr * step.weight_decay);
  } else if (step.weight_decay != 0) {
    g = g.add(p, step.weight_decay);
  }
  const at::Tensor m = float_values(mean).lerp_(g, 1 - step.beta1);
  const at::Tensor v = float_values(square).mul_(step.beta2).addcmul_(g, g, 1 - step.beta2);
  const at::Tensor most = largest ? at::maximum(float_values(*largest), v) : at::Tensor();
  const double bias2 = 1 - std::pow(step.beta2, step.step);
  const at::Tensor root = (largest ? most : v).sqrt().div_(std::sqrt(bias2)).add_(step.eps);
  p.addcdiv_(m, root, -step.lr / (1 - std::pow(step.beta1, step.step)));
  const at::Tensor bits = composed_random_bits(p.numel(), key, p.device());
  const at::Tensor high = bits.bitwise_right_shift(16);
  composed_keep(mean, m, bits.bitwise_and(0xffff));
  composed_keep(square, v, high);
  if (largest) composed_keep(*largest, most, high);
}

void composed_sgd_step_(const at::Tensor& param, const at::Tensor& grad, const KeptMean& mean,
                        const SgdStep& step, uint64_t key) {
  at::Tensor p = in_memory_order(param);
  at::Tensor g = in_memory_order(grad);
  if (step.maximize) g = g.neg();
  if (step.weight_decay != 0) g = g.add(p, step.weight_decay);
  const at::Tensor m =
      step.first ? g : float_values(mean).mul_(step.momentum).add_(g, 1 - step.dampening);
  p.add_(step.nesterov ? g.add(m, step.momentum) : m, -step.lr);
  composed_keep(mean, m, composed_random_bits(p.numel(), key, p.device()).bitwise_and_(0xffff));
}

}  // namespace seg
