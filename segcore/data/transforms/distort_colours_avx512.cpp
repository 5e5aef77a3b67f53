#include "segcore/data/transforms/distort_colours_avx512.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace seg::detail {

#if defined(__x86_64__)
namespace {

#define SEG_VBMI __attribute__((target("avx512f,avx512bw,avx512dq,avx512vbmi,bmi2")))
#define SEG_VBMI_INLINE SEG_VBMI __attribute__((always_inline)) inline
/// After the parameters of a lambda.
#define SEG_VBMI_LAMBDA SEG_VBMI __attribute__((always_inline))

constexpr int kAtOnce = 64;
constexpr int kHuesOfSector = 30;

// Bytes of 64 pixels, and words of 32 of them.
using Bytes64 = __m512i;
using Words32 = __m512i;

/// Three bands of 64 pixels.
struct Planes {
  Bytes64 blue, green, red;
};
struct HsvPlanes {
  Bytes64 hue, saturation, value;
};

constexpr ByteTable byte_table(auto&& entry) {
  ByteTable out;
  for (int i = 0; i < 256; ++i) out.bytes[static_cast<size_t>(i)] = static_cast<uint8_t>(entry(i));
  return out;
}

/// OpenCV's quotients in parts of 4096, rounded.
constexpr int rounded_quotient(int of, int by) { return by == 0 ? 0 : (2 * of + by) / (2 * by); }

/// 255 * 4096 / value. Below 16, where these need more than 16 bits, a sixteenth: products with
/// 0..value come to the same byte.
constexpr int kSmallValue = 16;
constexpr int saturation_quotient(int value) {
  const int whole = rounded_quotient(255 * 4096, value);
  return value < kSmallValue ? (whole + 8) / 16 : whole;
}
/// 30 * 4096 / range. Below 4, where these need more than 15 bits, a quarter, which is exact; the
/// sixteenth bit marks them.
constexpr int kSmallRange = 4;
constexpr int hue_quotient(int range) {
  const int whole = rounded_quotient(kHuesOfSector * 4096, range);
  return range < kSmallRange ? whole / 4 | 0x8000 : whole;
}
constexpr ByteTable kSaturationLow = byte_table([](int i) { return saturation_quotient(i) & 255; });
constexpr ByteTable kSaturationHigh = byte_table([](int i) { return saturation_quotient(i) >> 8; });
constexpr ByteTable kHueLow = byte_table([](int i) { return hue_quotient(i) & 255; });
constexpr ByteTable kHueHigh = byte_table([](int i) { return hue_quotient(i) >> 8; });

/// Where bytes are taken from.
template <int kRegisters>
struct alignas(64) BytePlaces {
  uint8_t of[kRegisters][kAtOnce];
};
/// Of 192 bytes, every third. The first seven bits choose from two registers, the eighth means
/// that the third holds the byte.
constexpr auto kOfBands = [] {
  BytePlaces<3> out{};
  for (int band = 0; band < 3; ++band) {
    for (int i = 0; i < kAtOnce; ++i) out.of[band][i] = static_cast<uint8_t>(3 * i + band);
  }
  return out;
}();
/// Of three bands, pixel by pixel; likewise.
constexpr auto kOfPixels = [] {
  BytePlaces<3> out{};
  for (int i = 0; i < 3 * kAtOnce; ++i) {
    out.of[i / kAtOnce][i % kAtOnce] = static_cast<uint8_t>(i % 3 * kAtOnce + i / 3);
  }
  return out;
}();
/// Of each 16 bytes the first four as 32 bits each, the second and so on: packing puts them back.
constexpr auto kFours = [] {
  constexpr uint8_t kZero = 0x80;
  BytePlaces<4> out{};
  for (int i = 0; i < 4 * kAtOnce; ++i) {
    const int four = i / kAtOnce, place = i % 16;
    out.of[four][i % kAtOnce] = static_cast<uint8_t>(place % 4 == 0 ? 4 * four + place / 4 : kZero);
  }
  return out;
}();

SEG_VBMI_INLINE Bytes64 load_bytes(const uint8_t* from) { return _mm512_loadu_si512(from); }
SEG_VBMI_INLINE Bytes64 all_bytes(int value) { return _mm512_set1_epi8(static_cast<char>(value)); }

SEG_VBMI_INLINE Bytes64 taken(const uint8_t* places, Bytes64 first, Bytes64 second, Bytes64 third) {
  const Bytes64 at = load_bytes(places);
  return _mm512_mask_permutexvar_epi8(_mm512_permutex2var_epi8(first, at, second),
                                      _mm512_movepi8_mask(at), at, third);
}

SEG_VBMI_INLINE Bytes64 looked_up(const ByteTable& table, Bytes64 index) {
  const uint8_t* part = table.bytes.data();
  const Bytes64 low = _mm512_permutex2var_epi8(load_bytes(part), index, load_bytes(part + 64));
  const Bytes64 high =
      _mm512_permutex2var_epi8(load_bytes(part + 128), index, load_bytes(part + 192));
  return _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(index), high);
}

/// The words of bytes, for the first half and the second of each 16.
template <bool kSecond>
SEG_VBMI_INLINE Words32 words_of(Bytes64 low, Bytes64 high) {
  return kSecond ? _mm512_unpackhi_epi8(low, high) : _mm512_unpacklo_epi8(low, high);
}

/// (range * quotient + 2048) >> 12
struct Saturations {
  Bytes64 range_low, range_high;  ///< times 32, or 512 where the quotient is a sixteenth
  Bytes64 quotient_low, quotient_high;

  template <bool kSecond>
  SEG_VBMI_INLINE Words32 half() const {
    const Words32 twice = _mm512_mulhi_epu16(words_of<kSecond>(range_low, range_high),
                                             words_of<kSecond>(quotient_low, quotient_high));
    return _mm512_avg_epu16(twice, _mm512_setzero_si512());
  }
};

/// (around * quotient + 2048) >> 12, with around = plus - minus + range * sectors
struct Hues {
  Bytes64 plus, minus, range, sectors;
  Bytes64 quotient_low, quotient_high;

  template <bool kSecond>
  SEG_VBMI_INLINE Words32 half() const {
    const Words32 around =
        _mm512_sub_epi16(_mm512_maddubs_epi16(words_of<kSecond>(range, plus),
                                              words_of<kSecond>(sectors, all_bytes(1))),
                         words_of<kSecond>(minus, _mm512_setzero_si512()));
    const Words32 quotient = words_of<kSecond>(quotient_low, quotient_high);
    const Words32 eightfold = _mm512_slli_epi16(around, 3);
    const Words32 factor =
        _mm512_mask_slli_epi16(eightfold, _mm512_movepi16_mask(quotient), eightfold, 2);
    const Words32 hue =
        _mm512_mulhrs_epi16(factor, _mm512_and_si512(quotient, _mm512_set1_epi16(0x7FFF)));
    // A negative one is larger than any other without its sign.
    return _mm512_min_epu16(hue, _mm512_add_epi16(hue, _mm512_set1_epi16(6 * kHuesOfSector)));
  }
};

template <class Halves>
SEG_VBMI_INLINE Bytes64 packed_halves(const Halves& from) {
  return _mm512_packus_epi16(from.template half<false>(), from.template half<true>());
}

SEG_VBMI_INLINE HsvPlanes hsv_planes_of(const Planes& in) {
  const auto& [b, g, r] = in;
  const Bytes64 value = _mm512_max_epu8(_mm512_max_epu8(b, g), r);
  const Bytes64 range = _mm512_sub_epi8(value, _mm512_min_epu8(_mm512_min_epu8(b, g), r));
  const __mmask64 is_red = _mm512_cmpeq_epu8_mask(value, r);
  const __mmask64 is_green = _mm512_cmpeq_epu8_mask(value, g);
  const auto choose = [&](Bytes64 red, Bytes64 green, Bytes64 blue) SEG_VBMI_LAMBDA {
    return _mm512_mask_mov_epi8(_mm512_mask_mov_epi8(blue, is_green, green), is_red, red);
  };
  const Hues hues{.plus = choose(g, b, r),
                  .minus = choose(b, r, g),
                  .range = range,
                  .sectors = choose(all_bytes(0), all_bytes(2), all_bytes(4)),
                  .quotient_low = looked_up(kHueLow, range),
                  .quotient_high = looked_up(kHueHigh, range)};
  // The bytes of a range times 32: its last three bits before five zeros, and its first five.
  const __mmask64 small = _mm512_cmplt_epu8_mask(value, all_bytes(kSmallValue));
  const Bytes64 low = _mm512_and_si512(_mm512_slli_epi16(range, 5), all_bytes(0xE0));
  const Bytes64 high = _mm512_and_si512(_mm512_srli_epi16(range, 3), all_bytes(0x1F));
  const Saturations saturations{.range_low = _mm512_mask_mov_epi8(low, small, all_bytes(0)),
                                .range_high = _mm512_mask_add_epi8(high, small, range, range),
                                .quotient_low = looked_up(kSaturationLow, value),
                                .quotient_high = looked_up(kSaturationHigh, value)};
  return {packed_halves(hues), packed_halves(saturations), value};
}

/// A product that no compiler joins with a sum.
SEG_VBMI_INLINE __m512 separate_product(__m512 a, __m512 b) {
  __m512 out = _mm512_mul_ps(a, b);
  asm("" : "+v"(out));
  return out;
}

/// The bands that are not the value, of 16 pixels: the least, and the one that lies between. In
/// OpenCV's floats, whose products of whole numbers fall short of these at places.
struct LowAndBetween {
  __m512i low, between;
};

SEG_VBMI_INLINE LowAndBetween low_and_between(__m512i hue, __m512i saturation, __m512i value,
                                              __mmask16 even) {
  const __m512 one = _mm512_set1_ps(1.0F), whole = _mm512_set1_ps(255.0F);
  const __m512 byte = _mm512_set1_ps(1.0F / 255.0F);
  constexpr int kFractionOfTruncated = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC;
  const __m512 part =
      _mm512_reduce_ps(separate_product(_mm512_cvtepi32_ps(hue), _mm512_set1_ps(6.0F / 180.0F)),
                       kFractionOfTruncated);
  // The band between rises in the sectors 0, 2, 4.
  const __m512 along = _mm512_mask_sub_ps(part, even, one, part);
  const __m512 s = separate_product(_mm512_cvtepi32_ps(saturation), byte);
  const __m512 v = separate_product(_mm512_cvtepi32_ps(value), byte);
  const __m512 low = separate_product(v, _mm512_sub_ps(one, s));
  const __m512 between = separate_product(v, _mm512_fnmadd_ps(s, along, one));
  return {_mm512_cvttps_epi32(separate_product(low, whole)),
          _mm512_cvttps_epi32(separate_product(between, whole))};
}

SEG_VBMI_INLINE Planes bgr_planes_of(const HsvPlanes& in) {
  const auto from = [&](int sector) SEG_VBMI_LAMBDA {
    return _mm512_cmpge_epu8_mask(in.hue, all_bytes(sector * kHuesOfSector));
  };
  const __mmask64 from_1 = from(1), from_2 = from(2), from_3 = from(3), from_4 = from(4);
  const __mmask64 from_5 = from(5);
  const uint64_t even = ~(from_1 ^ from_2 ^ from_3 ^ from_4 ^ from_5);
  LowAndBetween parts[4];
  for (int i = 0; i < 4; ++i) {
    const Bytes64 places = load_bytes(kFours.of[i]);
    parts[i] = low_and_between(
        _mm512_shuffle_epi8(in.hue, places), _mm512_shuffle_epi8(in.saturation, places),
        _mm512_shuffle_epi8(in.value, places),
        static_cast<__mmask16>(_pext_u64(even, uint64_t{0x000F'000F'000F'000F} << 4 * i)));
  }
  const auto packed = [&](__m512i LowAndBetween::*band) SEG_VBMI_LAMBDA {
    return _mm512_packus_epi16(_mm512_packus_epi32(parts[0].*band, parts[1].*band),
                               _mm512_packus_epi32(parts[2].*band, parts[3].*band));
  };
  const Bytes64 low = packed(&LowAndBetween::low), between = packed(&LowAndBetween::between);
  const Bytes64 high = in.value;  // which comes back whole from OpenCV's floats
  // In sector 0 these; each line changes a band from a sector on.
  Planes out{low, between, high};
  out.blue = _mm512_mask_mov_epi8(out.blue, from_2, between);
  out.blue = _mm512_mask_mov_epi8(out.blue, from_3, high);
  out.blue = _mm512_mask_mov_epi8(out.blue, from_5, between);
  out.green = _mm512_mask_mov_epi8(out.green, from_1, high);
  out.green = _mm512_mask_mov_epi8(out.green, from_3, between);
  out.green = _mm512_mask_mov_epi8(out.green, from_4, low);
  out.red = _mm512_mask_mov_epi8(out.red, from_1, between);
  out.red = _mm512_mask_mov_epi8(out.red, from_2, low);
  out.red = _mm512_mask_mov_epi8(out.red, from_4, between);
  out.red = _mm512_mask_mov_epi8(out.red, from_5, high);
  return out;
}

SEG_VBMI_INLINE Planes with_saturation(const Planes& pixels, const ByteTable& table) {
  HsvPlanes changed = hsv_planes_of(pixels);
  changed.saturation = looked_up(table, changed.saturation);
  return bgr_planes_of(changed);
}

SEG_VBMI_INLINE Planes with_hue(const Planes& pixels, int added) {
  constexpr int kHues = 6 * kHuesOfSector;
  HsvPlanes changed = hsv_planes_of(pixels);
  const __mmask64 beyond = _mm512_cmpge_epu8_mask(changed.hue, all_bytes(kHues - added));
  changed.hue = _mm512_add_epi8(changed.hue, all_bytes(added));
  changed.hue = _mm512_mask_sub_epi8(changed.hue, beyond, changed.hue, all_bytes(kHues));
  return bgr_planes_of(changed);
}

SEG_VBMI void distort_64_pixels(uint8_t* at, const TabledDistortion& d) {
  Bytes64 bytes[3];
  for (int i = 0; i < 3; ++i) bytes[i] = load_bytes(at + i * kAtOnce);
  if (d.before) {
    for (Bytes64& each : bytes) each = looked_up(*d.before, each);
  }
  if (d.saturation || d.hue) {
    const auto bands = [&](int i) SEG_VBMI_LAMBDA {
      return taken(kOfBands.of[i], bytes[0], bytes[1], bytes[2]);
    };
    Planes planes{bands(0), bands(1), bands(2)};
    if (d.saturation) planes = with_saturation(planes, *d.saturation);
    if (d.hue) planes = with_hue(planes, *d.hue);
    for (int i = 0; i < 3; ++i) {
      bytes[i] = taken(kOfPixels.of[i], planes.blue, planes.green, planes.red);
    }
  }
  if (d.after) {
    for (Bytes64& each : bytes) each = looked_up(*d.after, each);
  }
  for (int i = 0; i < 3; ++i) _mm512_storeu_si512(at + i * kAtOnce, bytes[i]);
}

}  // namespace

bool has_avx512_vbmi() {
  static const bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") &&
                          __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("bmi2");
  return has;
}

int distort_by_64(uint8_t* row, int count, const TabledDistortion& distortion) {
  int x = 0;
  for (; x + kAtOnce <= count; x += kAtOnce) distort_64_pixels(row + 3 * x, distortion);
  return x;
}
#else

bool has_avx512_vbmi() { return false; }
int distort_by_64(uint8_t*, int, const TabledDistortion&) { return 0; }
#endif

}  // namespace seg::detail
