// The updates of kept_mean.hpp on a CPU: block by block, whose means are floats on the stack alone.
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "registry/error.hpp"
#include "runners/optim/dynamic_map.hpp"
#include "runners/optim/kept_mean.hpp"
#include "segcore/cpu_vector.hpp"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace seg {
namespace {

using vec::F4;
using vec::F8;
using U8x = uint32_t __attribute__((vector_size(32)));
using Halves = uint16_t __attribute__((vector_size(16)));

template <class To, class From>
SEG_VECTOR_BODY To same_bits(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

SEG_VECTOR_BODY F8 root_of(const F8& x) {
  F4 halves[2];
  std::memcpy(halves, &x, sizeof halves);
  for (F4& half : halves) {
#if defined(__x86_64__)
    half = same_bits<F4>(_mm_sqrt_ps(same_bits<__m128>(half)));
#else
    for (int i = 0; i < 4; ++i) half[i] = std::sqrt(half[i]);
#endif
  }
  return same_bits<F8>(halves);
}

SEG_VECTOR_BODY F8 size_of(const F8& x) { return same_bits<F8>(same_bits<U8x>(x) & 0x7fffffffu); }

/// 32 random bits for each of eight values: the hash `lowbias32` of Wellons 2018, Prospecting for
/// hash functions, with half of the key before its first product and half after it.
SEG_VECTOR_BODY U8x random_bits(uint64_t key, int64_t at) {
  const auto first = static_cast<uint32_t>(at);
  U8x x = U8x{0, 1, 2, 3, 4, 5, 6, 7} + first;
  x ^= static_cast<uint32_t>(key);
  x ^= x >> 16;
  x = x * 0x7feb352du + static_cast<uint32_t>(key >> 32);
  x ^= x >> 15;
  x *= 0x846ca68bu;
  return x ^ (x >> 16);
}

/// A kept mean where it lies.
struct MeanPointer {
  uint16_t* halves = nullptr;
  uint8_t* codes = nullptr;
  float* scales = nullptr;
  const DynamicMap* map = nullptr;
  bool squares = false;
};

MeanPointer pointer_to(const KeptMean& mean) {
  MeanPointer out;
  out.squares = mean.squares;
  if (!mean.scales.defined()) {
    out.halves = static_cast<uint16_t*>(mean.values.data_ptr());
    return out;
  }
  out.codes = static_cast<uint8_t*>(mean.values.data_ptr());
  out.scales = mean.scales.mutable_data_ptr<float>();
  out.map = &DynamicMap::of(!mean.squares);
  return out;
}

struct FloatBlock {
  alignas(32) float values[kMeanBlock];
};
/// A shift of 0 takes the lower 16 of the random bits, 16 the upper ones.
struct BitsBlock {
  alignas(32) uint32_t values[kMeanBlock];
};

/// \param count  of values in this block; the rest become 0
SEG_VECTOR_BODY void decode(const MeanPointer& from, int64_t block, int64_t count, FloatBlock& to) {
  const int64_t at = block * kMeanBlock;
  if (!from.halves) {
    const float scale = from.scales[block];
    const float* values = from.map->values.data();
    for (int64_t i = 0; i < count; ++i) to.values[i] = values[from.codes[at + i]] * scale;
    std::fill(to.values + count, to.values + kMeanBlock, 0.0f);
    return;
  }
  uint16_t rest[kMeanBlock];
  const uint16_t* halves = from.halves + at;
  if (count < kMeanBlock) {
    std::fill(std::copy_n(halves, count, rest), rest + kMeanBlock, uint16_t{0});
    halves = rest;
  }
  for (int64_t i = 0; i < kMeanBlock; i += vec::kLanes) {
    const U8x bits = __builtin_convertvector(vec::load_as<Halves>(halves + i), U8x);
    vec::store(to.values + i, same_bits<F8>(bits << 16));
  }
}

SEG_VECTOR_BODY void encode_halves(uint16_t* to, int64_t count, const FloatBlock& from,
                                   const BitsBlock& random, int shift) {
  uint16_t rest[kMeanBlock];
  uint16_t* halves = count < kMeanBlock ? rest : to;
  for (int64_t i = 0; i < kMeanBlock; i += vec::kLanes) {
    U8x bits = vec::load_as<U8x>(from.values + i);
    const U8x drawn = (vec::load_as<U8x>(random.values + i) >> shift) & 0xffffu;
    // An infinite number and NaN stay what they are.
    bits += (bits & 0x7f800000u) == 0x7f800000u ? U8x{} : drawn;
    vec::store_as(halves + i, __builtin_convertvector(bits >> 16, Halves));
  }
  if (count < kMeanBlock) std::copy_n(rest, count, to);
}

/// The largest size in a block; NaN where a value is infinite or not a number, and 0 where all are
/// denormal.
SEG_VECTOR_BODY float scale_of(const FloatBlock& from) {
  F8 most{}, broken{};
  for (int64_t i = 0; i < kMeanBlock; i += vec::kLanes) {
    const F8 x = vec::load(from.values + i);
    most = vec::max(most, size_of(x));
    broken += x * 0.0f;
  }
  const float sum = vec::sum_of(broken), scale = vec::max_of(most);
  if (sum != 0) return sum;
  constexpr float kLeastNormal = 1.17549435e-38f;
  return scale < kLeastNormal ? 0.0f : scale;
}

SEG_VECTOR_BODY void encode_codes(const MeanPointer& to, int64_t block, int64_t count,
                                  const FloatBlock& from, const BitsBlock& random, int shift) {
  uint8_t* codes = to.codes + block * kMeanBlock;
  const DynamicMap& map = *to.map;
  const float scale = scale_of(from);
  to.scales[block] = scale;
  if (!(scale > 0)) {
    std::fill_n(codes, count, static_cast<uint8_t>(map.zero));
    return;
  }
  const float* levels = map.levels.data();
  const float* per_gap = map.per_gap.data();
  const int32_t* floors = map.floors.data();
  const int32_t least = to.squares ? 1 : 0;
  FloatBlock ratios;
  BitsBlock drawn;
  for (int64_t i = 0; i < kMeanBlock; i += vec::kLanes) {
    vec::store(ratios.values + i, size_of(vec::load(from.values + i)) / scale);
    const U8x bits = (vec::load_as<U8x>(random.values + i) >> shift) & 0xffffu;
    vec::store_as(drawn.values + i, bits);
  }
  // Whole numbers are compared: of floats that are not negative they are in the same order, and
  // what chance decides is no branch then, which would be foreseen half of the times.
  for (int64_t i = 0; i < count; ++i) {
    const float x = ratios.values[i];
    const auto bits = same_bits<int32_t>(x);
    const int32_t cell = (bits >> 16) - DynamicMap::kSmallest;
    int32_t level = floors[std::max(cell, 0)];
    level += static_cast<int32_t>(same_bits<int32_t>(levels[level + 1]) <= bits);
    const auto part = static_cast<int32_t>((x - levels[level]) * per_gap[level] * 65536.0f);
    level += static_cast<int32_t>(static_cast<int32_t>(drawn.values[i]) < part);
    level = std::max(level, static_cast<int32_t>(bits > 0) & least);
    const int32_t negative = same_bits<int32_t>(from.values[i]) >> 31;
    codes[i] = static_cast<uint8_t>(std::max(map.zero + ((level ^ negative) - negative), 0));
  }
}

SEG_VECTOR_BODY void encode(const MeanPointer& to, int64_t block, int64_t count,
                            const FloatBlock& from, const BitsBlock& random, int shift) {
  if (to.halves) {
    encode_halves(to.halves + block * kMeanBlock, count, from, random, shift);
  } else {
    encode_codes(to, block, count, from, random, shift);
  }
}

/// Blocks of one parameter.
struct BlockRange {
  float* param;
  const float* grad;
  int64_t count;  ///< values of the parameter
  int64_t begin, end;
  uint64_t key;
};

/// Calls f(i, param, grad) for each eight values of a block, and draws their random bits.
/// \param f  returns the new values of the parameter; it may write into blocks at i
template <class F>
SEG_VECTOR_BODY void update_block(const BlockRange& r, int64_t block, int64_t count,
                                  BitsBlock& random, const F& f) {
  const int64_t at = block * kMeanBlock;
  FloatBlock rest_of_param, rest_of_grad;
  float* param = r.param + at;
  const float* grad = r.grad + at;
  if (count < kMeanBlock) {
    rest_of_param = rest_of_grad = FloatBlock{};
    std::copy_n(param, count, rest_of_param.values);
    std::copy_n(grad, count, rest_of_grad.values);
    param = rest_of_param.values;
    grad = rest_of_grad.values;
  }
  for (int64_t i = 0; i < kMeanBlock; i += vec::kLanes) {
    vec::store(param + i, f(i, vec::load(param + i), vec::load(grad + i)));
    vec::store_as(random.values + i, random_bits(r.key, at + i));
  }
  if (count < kMeanBlock) std::copy_n(rest_of_param.values, count, r.param + at);
}

struct AdamBlocks : BlockRange {
  MeanPointer mean, square, largest;
  bool amsgrad;
  float sign, kept_weight, penalty, beta2, taken1, taken2, eps, rate, per_bias;
};

SEG_VECTOR_BODY void adam_blocks(const AdamBlocks& a) {
  for (int64_t block = a.begin; block < a.end; ++block) {
    const int64_t count = std::min(kMeanBlock, a.count - block * kMeanBlock);
    FloatBlock mean, square, largest;
    BitsBlock random;
    decode(a.mean, block, count, mean);
    decode(a.square, block, count, square);
    if (a.amsgrad) decode(a.largest, block, count, largest);
    const auto step = [&](int64_t i, const F8& param, const F8& grad) SEG_INLINE_LAMBDA {
      const F8 p = param * a.kept_weight;
      const F8 g = grad * a.sign + param * a.penalty;
      const F8 before = vec::load(mean.values + i);
      const F8 m = before + (g - before) * a.taken1;
      F8 v = vec::load(square.values + i) * a.beta2 + g * g * a.taken2;
      vec::store(mean.values + i, m);
      vec::store(square.values + i, v);
      if (a.amsgrad) {
        v = vec::max(v, vec::load(largest.values + i));
        vec::store(largest.values + i, v);
      }
      return p - a.rate * m / (root_of(v) * a.per_bias + a.eps);
    };
    update_block(a, block, count, random, step);
    encode(a.mean, block, count, mean, random, 0);
    encode(a.square, block, count, square, random, 16);
    if (a.amsgrad) encode(a.largest, block, count, largest, random, 16);
  }
}
SEG_VECTOR_KERNEL(run_adam_blocks, adam_blocks, AdamBlocks)

struct SgdBlocks : BlockRange {
  MeanPointer mean;
  bool nesterov;
  float sign, penalty, momentum, taken, rate;
};

SEG_VECTOR_BODY void sgd_blocks(const SgdBlocks& a) {
  for (int64_t block = a.begin; block < a.end; ++block) {
    const int64_t count = std::min(kMeanBlock, a.count - block * kMeanBlock);
    FloatBlock mean;
    BitsBlock random;
    decode(a.mean, block, count, mean);
    const auto step = [&](int64_t i, const F8& param, const F8& grad) SEG_INLINE_LAMBDA {
      const F8 g = grad * a.sign + param * a.penalty;
      const F8 m = vec::load(mean.values + i) * a.momentum + g * a.taken;
      vec::store(mean.values + i, m);
      return param - a.rate * (a.nesterov ? g + m * a.momentum : m);
    };
    update_block(a, block, count, random, step);
    encode(a.mean, block, count, mean, random, 0);
  }
}
SEG_VECTOR_KERNEL(run_sgd_blocks, sgd_blocks, SgdBlocks)

/// Fills the range of one parameter, and shares its blocks among threads.
template <class Blocks>
void run_blocks(Blocks blocks, void (*run)(const Blocks&), const at::Tensor& param,
                const at::Tensor& grad, uint64_t key) {
  SEG_CHECK(param.is_non_overlapping_and_dense() && grad.is_non_overlapping_and_dense(),
            "a parameter with gaps in memory: ", param.strides());
  blocks.param = param.mutable_data_ptr<float>();
  blocks.grad = grad.const_data_ptr<float>();
  blocks.count = param.numel();
  blocks.key = key;
  constexpr int64_t kGrain = 32;
  const int64_t number = (param.numel() + kMeanBlock - 1) / kMeanBlock;
  at::parallel_for(0, number, kGrain, [&](int64_t begin, int64_t end) {
    Blocks own = blocks;
    own.begin = begin;
    own.end = end;
    run(own);
  });
}

}  // namespace

void adam_step_(const at::Tensor& param, const at::Tensor& grad, const KeptMean& mean,
                const KeptMean& square, const KeptMean* largest, const AdamStep& s, uint64_t key) {
  if (!param.is_cpu()) {
    composed_adam_step_(param, grad, mean, square, largest, s, key);
    return;
  }
  AdamBlocks a{};
  a.mean = pointer_to(mean);
  a.square = pointer_to(square);
  a.amsgrad = largest != nullptr;
  if (largest) a.largest = pointer_to(*largest);
  const bool decoupled = s.decoupled_weight_decay;
  a.sign = s.maximize ? -1.0f : 1.0f;
  a.kept_weight = static_cast<float>(decoupled ? 1 - s.lr * s.weight_decay : 1);
  a.penalty = static_cast<float>(decoupled ? 0 : s.weight_decay);
  a.beta2 = static_cast<float>(s.beta2);
  a.taken1 = static_cast<float>(1 - s.beta1);
  a.taken2 = static_cast<float>(1 - s.beta2);
  a.eps = static_cast<float>(s.eps);
  a.rate = static_cast<float>(s.lr / (1 - std::pow(s.beta1, s.step)));
  a.per_bias = static_cast<float>(1 / std::sqrt(1 - std::pow(s.beta2, s.step)));
  run_blocks(a, run_adam_blocks, param, grad, key);
}

void sgd_step_(const at::Tensor& param, const at::Tensor& grad, const KeptMean& mean,
               const SgdStep& s, uint64_t key) {
  if (!param.is_cpu()) {
    composed_sgd_step_(param, grad, mean, s, key);
    return;
  }
  SgdBlocks a{};
  a.mean = pointer_to(mean);
  a.nesterov = s.nesterov;
  a.sign = s.maximize ? -1.0f : 1.0f;
  a.penalty = static_cast<float>(s.weight_decay);
  a.momentum = static_cast<float>(s.momentum);
  a.taken = static_cast<float>(s.first ? 1 : 1 - s.dampening);
  a.rate = static_cast<float>(s.lr);
  run_blocks(a, run_sgd_blocks, param, grad, key);
}

}  // namespace seg
