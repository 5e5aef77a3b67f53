/// Eight floats at a time for kernels of CPUs, in the instructions that the machine has: a kernel's
/// body is a SEG_VECTOR_BODY, which SEG_VECTOR_KERNEL compiles with and without AVX2. A body for
/// vectors of any size is compiled for AVX-512, too, by SEG_WIDEST_KERNEL.
#pragma once
#include <cstdint>
#include <cstring>

// Helpers pass wide values, and are inlined everywhere.
#pragma GCC diagnostic ignored "-Wpsabi"

#define SEG_VECTOR_BODY __attribute__((always_inline)) inline
/// After the parameters of a lambda that passes wide values.
#define SEG_INLINE_LAMBDA __attribute__((always_inline))

#if defined(__x86_64__)
/// Defines `void name(arguments)`, which calls `body` compiled for this machine.
#define SEG_VECTOR_KERNEL(name, body, Arguments)                                        \
  __attribute__((target("avx2,fma"))) void name##_avx2(const Arguments& a) { body(a); } \
  void name##_plain(const Arguments& a) { body(a); }                                    \
  void name(const Arguments& a) { has_avx2_and_fma() ? name##_avx2(a) : name##_plain(a); }
/// Defines `void name(arguments)`, which calls `body(arguments, vec::Width<Vector>)` with the
/// widest vectors of this machine.
#define SEG_WIDEST_KERNEL(name, body, Arguments)                             \
  __attribute__((target("avx512f"))) void name##_of_16(const Arguments& a) { \
    body(a, vec::Width<vec::F16>{});                                         \
  }                                                                          \
  __attribute__((target("avx2,fma"))) void name##_of_8(const Arguments& a) { \
    body(a, vec::Width<vec::F8>{});                                          \
  }                                                                          \
  void name##_of_4(const Arguments& a) { body(a, vec::Width<vec::F4>{}); }   \
  void name(const Arguments& a) {                                            \
    static const auto widest = has_avx512()         ? name##_of_16           \
                               : has_avx2_and_fma() ? name##_of_8            \
                                                    : name##_of_4;           \
    widest(a);                                                               \
  }
#else
#define SEG_VECTOR_KERNEL(name, body, Arguments) \
  void name(const Arguments& a) { body(a); }
#define SEG_WIDEST_KERNEL(name, body, Arguments) \
  void name(const Arguments& a) { body(a, vec::Width<vec::F4>{}); }
#endif

namespace seg {

/// Whether this machine has the instructions.
inline bool has_avx512() {
#if defined(__x86_64__)
  static const bool has = __builtin_cpu_supports("avx512f") != 0;
  return has;
#else
  return false;
#endif
}

inline bool has_avx2_and_fma() {
#if defined(__x86_64__)
  static const bool has = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return has;
#else
  return false;
#endif
}

inline bool has_avx2() {
#if defined(__x86_64__)
  static const bool has = __builtin_cpu_supports("avx2") != 0;
  return has;
#else
  return false;
#endif
}

#if defined(__x86_64__)
__attribute__((target("avx"))) inline void clear_upper_halves_of_vectors() {
  __builtin_ia32_vzeroupper();
}
#endif

/// Call it after functions in assembler that leave the upper halves of vectors in use: instructions
/// of the older kind then wait for one another, in whatever comes next.
inline void clear_upper_halves() {
#if defined(__x86_64__)
  if (has_avx2()) clear_upper_halves_of_vectors();
#endif
}

}  // namespace seg

namespace seg::vec {

inline constexpr int64_t kLanes = 8;
using F8 = float __attribute__((vector_size(32)));
using I8 = int32_t __attribute__((vector_size(32)));
using F16 = float __attribute__((vector_size(64)));  ///< of AVX-512
using U16 = uint8_t __attribute__((vector_size(16)));
using F4 = float __attribute__((vector_size(16)));
using D4 = double __attribute__((vector_size(32)));
/// Which vectors a body is compiled for.
template <class Vector>
struct Width {};
/// For sums over many pixels. Two registers: of one twice as wide GCC makes eight scalars.
struct D8 {
  D4 low{}, high{};
};

/// A vector at any address. GCC makes one move of it, and two of a memcpy, which the load of a
/// whole vector after it has to wait for.
template <class Vector>
struct Anywhere {
  typedef Vector Type __attribute__((aligned(1), may_alias));
};
template <class Vector>
SEG_VECTOR_BODY Vector load_as(const void* from) {
  return *static_cast<const typename Anywhere<Vector>::Type*>(from);
}
template <class Vector>
SEG_VECTOR_BODY void store_as(void* to, const Vector& value) {
  *static_cast<typename Anywhere<Vector>::Type*>(to) = value;
}

SEG_VECTOR_BODY F8 load(const float* from) { return load_as<F8>(from); }
SEG_VECTOR_BODY void store(float* to, const F8& value) { store_as(to, value); }
SEG_VECTOR_BODY F8 all(float value) {
  return F8{value, value, value, value, value, value, value, value};
}
/// Sixteen floats in turn from one and the other: the first eight, and the last.
SEG_VECTOR_BODY F8 low_in_turn(const F8& one, const F8& other) {
  return __builtin_shufflevector(one, other, 0, 8, 1, 9, 2, 10, 3, 11);
}
SEG_VECTOR_BODY F8 high_in_turn(const F8& one, const F8& other) {
  return __builtin_shufflevector(one, other, 4, 12, 5, 13, 6, 14, 7, 15);
}
/// The sums of each one's lanes that are four apart, in turn from one and the other.
SEG_VECTOR_BODY F8 folded(const F8& one, const F8& other) {
  return low_in_turn(one, other) + high_in_turn(one, other);
}
/// Every second of sixteen neighbours: from the first, and from the second.
SEG_VECTOR_BODY F8 evens_of(const F8& low, const F8& high) {
  return __builtin_shufflevector(low, high, 0, 2, 4, 6, 8, 10, 12, 14);
}
SEG_VECTOR_BODY F8 odds_of(const F8& low, const F8& high) {
  return __builtin_shufflevector(low, high, 1, 3, 5, 7, 9, 11, 13, 15);
}
template <class Vector>
SEG_VECTOR_BODY Vector max(const Vector& a, const Vector& b) {
  return a > b ? a : b;
}

SEG_VECTOR_BODY D8 wide(const F8& x) {
  F4 halves[2];
  std::memcpy(halves, &x, sizeof halves);
  return {__builtin_convertvector(halves[0], D4), __builtin_convertvector(halves[1], D4)};
}
SEG_VECTOR_BODY F8 narrow(const D8& x) {
  return __builtin_shufflevector(__builtin_convertvector(x.low, F4),
                                 __builtin_convertvector(x.high, F4), 0, 1, 2, 3, 4, 5, 6, 7);
}
SEG_VECTOR_BODY D8 all(double value) { return {D4{} + value, D4{} + value}; }
SEG_VECTOR_BODY D8 operator+(const D8& a, const D8& b) { return {a.low + b.low, a.high + b.high}; }
SEG_VECTOR_BODY D8 operator-(const D8& a, const D8& b) { return {a.low - b.low, a.high - b.high}; }
SEG_VECTOR_BODY D8 operator*(const D8& a, const D8& b) { return {a.low * b.low, a.high * b.high}; }
SEG_VECTOR_BODY D8 load(const double* from) { return {load_as<D4>(from), load_as<D4>(from + 4)}; }
SEG_VECTOR_BODY void store(double* to, const D8& value) {
  store_as(to, value.low);
  store_as(to + 4, value.high);
}

SEG_VECTOR_BODY float sum_of(const F8& x) {
  float out = x[0];
  for (int i = 1; i < kLanes; ++i) out += x[i];
  return out;
}
SEG_VECTOR_BODY double sum_of(const D8& x) {
  double out = x.low[0];
  for (int i = 1; i < kLanes; ++i) out += i < 4 ? x.low[i] : x.high[i - 4];
  return out;
}
SEG_VECTOR_BODY float max_of(const F8& x) {
  float out = x[0];
  for (int i = 1; i < kLanes; ++i) out = out > x[i] ? out : x[i];
  return out;
}

/// e^x within two units of the last place for -87 <= x <= 0; 0 below.
template <class Vector>
SEG_VECTOR_BODY Vector exp_of_negative(const Vector& x) {
  // x = n ln 2 + r with |r| <= ln 2 / 2: adding 1.5 * 2^23 rounds n to an integer in the low bits.
  const Vector shifted = x * 1.44269504088896341f + 12582912.0f;
  const Vector n = shifted - 12582912.0f;
  const Vector r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  Vector p = r * 1.9875691500e-4f + 1.3981999507e-3f;  // Cephes' expf
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  decltype(x < Vector{}) bits;  // as many int32
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits - 0x4B400000 + 127) << 23;
  Vector scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return x < -87.0f ? Vector{} : p * scale;
}

}  // namespace seg::vec
