#include "segcore/data/transforms/distort_colours.hpp"

#include <array>
#include <cmath>
#include <numeric>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "segcore/cpu_vector.hpp"
#include "segcore/data/transforms/distort_colours_avx512.hpp"
#include "segcore/data/transforms/pixels.hpp"

namespace seg {
namespace {

using vec::F8;
using vec::I8;

/// A distortion as the kernels read it.
struct Steps {
  bool brightness, contrast, contrast_first, saturation, hue;
  float added, contrast_factor, saturation_factor;
  int32_t hue_added;
};

/// OpenCV's HSV of uint8: quotients in parts of 4096, hues of two degrees.
constexpr int kShift = 12;
constexpr float kSaturationUnit = 255 << kShift;
constexpr float kHueUnit = (180 << kShift) / 6.0F;
constexpr int kHues = 180;
constexpr float kSectorOfHue = 6.0F / kHues;
constexpr float kPartOfByte = 1.0F / 255.0F;
/// So many columns are truncated together by cv::cvtColor; those that are left over are rounded.
constexpr int kTruncated = 32;

/// A variant of the kernel.
struct Mode {
  bool rounds;  ///< what HSV gives, which is else truncated
  bool fused;   ///< with an instruction that multiplies and adds
};

/// Three bands of eight pixels, 0..255 each.
struct Bgr {
  I8 blue, green, red;
};
struct Hsv {
  I8 hue, saturation, value;
};

SEG_VECTOR_BODY I8 all(int32_t value) { return I8{} + value; }
SEG_VECTOR_BODY I8 to_int(const F8& x) { return __builtin_convertvector(x, I8); }
SEG_VECTOR_BODY F8 to_float(const I8& x) { return __builtin_convertvector(x, F8); }
SEG_VECTOR_BODY I8 greater(const I8& a, const I8& b) { return a > b ? a : b; }
SEG_VECTOR_BODY I8 smaller(const I8& a, const I8& b) { return a < b ? a : b; }
/// Rounds what is below 2^22: a float of 1.5 * 2^23 has no digits after the point.
SEG_VECTOR_BODY I8 rounded(const F8& x) { return to_int(x + 12582912.0F - 12582912.0F); }
/// 1 - a b, rounded once, as OpenCV has it with AVX2.
template <bool kFused>
SEG_VECTOR_BODY F8 one_minus_product(const F8& a, const F8& b) {
#if defined(__x86_64__) && !defined(__clang__)
  if constexpr (kFused) {
    F8 out = F8{} + 1.0F;
    asm("vfnmadd231ps %2, %1, %0" : "+x"(out) : "x"(a), "x"(b));
    return out;
  }
#endif
  return vec::narrow(vec::all(1.0) - vec::wide(a) * vec::wide(b));  // a product exact in double
}
/// Truncated and cut.
SEG_VECTOR_BODY I8 byte(const F8& x) { return smaller(greater(to_int(x), all(0)), all(255)); }

SEG_VECTOR_BODY Hsv hsv_of(const Bgr& in) {
  const auto& [b, g, r] = in;
  const I8 value = greater(greater(b, g), r);
  const I8 range = value - smaller(smaller(b, g), r);
  const I8 half = all(1 << (kShift - 1));
  // OpenCV keeps these rounded quotients in tables.
  const I8 of_value = rounded(kSaturationUnit / to_float(greater(value, all(1))));
  const I8 of_range = rounded(kHueUnit / to_float(greater(range, all(1))));
  const I8 around = value == r ? g - b : (value == g ? b - r + 2 * range : r - g + 4 * range);
  const I8 hue = (around * of_range + half) >> kShift;
  return {hue + ((hue < 0) & kHues), (range * of_value + half) >> kShift, value};
}

template <Mode kMode>
SEG_VECTOR_BODY Bgr bgr_of(const Hsv& in) {
  const F8 hue = to_float(in.hue) * kSectorOfHue;
  const I8 sector = to_int(hue);
  const F8 part = hue - to_float(sector);
  const F8 saturation = to_float(in.saturation) * kPartOfByte;
  const F8 value = to_float(in.value) * kPartOfByte;
  // One band has the value, one the least, and one lies between: it rises in the sectors 0, 2, 4.
  const F8 along = (sector & 1) == 1 ? part : 1.0F - part;
  const auto whole = [&](const F8& of_one) SEG_INLINE_LAMBDA {
    const F8 x = of_one * 255.0F;
    return kMode.rounds ? rounded(x) : to_int(x);
  };
  const I8 high = whole(value);
  const I8 low = whole(value * (1.0F - saturation));
  const I8 between = whole(value * one_minus_product<kMode.fused>(saturation, along));
  Bgr out;
  out.blue = sector < 2 ? low : high;
  out.blue = ((sector == 2) | (sector == 5)) ? between : out.blue;
  out.green = sector < 3 ? high : low;
  out.green = ((sector == 0) | (sector == 3)) ? between : out.green;
  out.red = ((sector == 2) | (sector == 3)) ? low : high;
  out.red = ((sector == 1) | (sector == 4)) ? between : out.red;
  return out;
}

template <Mode kMode>
SEG_VECTOR_BODY Bgr distorted(const Bgr& in, const Steps& d) {
  Bgr pixels = in;
  const auto each = [&](float factor, float added) SEG_INLINE_LAMBDA {
    pixels.blue = byte(to_float(pixels.blue) * factor + added);
    pixels.green = byte(to_float(pixels.green) * factor + added);
    pixels.red = byte(to_float(pixels.red) * factor + added);
  };
  if (d.brightness) each(1.0F, d.added);
  if (d.contrast && d.contrast_first) each(d.contrast_factor, 0.0F);
  if (d.saturation) {
    Hsv changed = hsv_of(pixels);
    changed.saturation = byte(to_float(changed.saturation) * d.saturation_factor);
    pixels = bgr_of<kMode>(changed);
  }
  if (d.hue) {
    Hsv changed = hsv_of(pixels);
    changed.hue += d.hue_added;
    changed.hue -= (changed.hue >= kHues) & kHues;
    pixels = bgr_of<kMode>(changed);
  }
  if (d.contrast && !d.contrast_first) each(d.contrast_factor, 0.0F);
  return pixels;
}

struct Row {
  uint8_t* pixels;
  int count;  ///< a multiple of eight
  const Steps& steps;
};

#if defined(__x86_64__)
// Not for "fma", by which products and sums would be joined where OpenCV rounds in between.
template <Mode kMode>
__attribute__((target("avx2"))) void distort_avx2(const Row& row) {
  // Four pixels lie in each half of a register; of eight pixels of 24 bytes the second four end
  // 16 bytes, of which the first four are of no use.
  constexpr char kNo = -1;
  const auto lanes = [&](int band) __attribute__((always_inline, target("avx2"))) {
    const auto at = [&](int pixel) { return static_cast<char>(3 * pixel + band); };
    return _mm256_setr_epi8(
        at(0), kNo, kNo, kNo, at(1), kNo, kNo, kNo, at(2), kNo, kNo, kNo, at(3), kNo, kNo, kNo,
        static_cast<char>(at(0) + 4), kNo, kNo, kNo, static_cast<char>(at(1) + 4), kNo, kNo, kNo,
        static_cast<char>(at(2) + 4), kNo, kNo, kNo, static_cast<char>(at(3) + 4), kNo, kNo, kNo);
  };
  const __m256i blue = lanes(0), green = lanes(1), red = lanes(2);
  const __m256i close = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, kNo, kNo, kNo, kNo));
  const __m256i join = _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 3, 7);
  for (int x = 0; x < row.count; x += 8) {
    uint8_t* p = row.pixels + 3 * x;
    const __m256i pixels =
        _mm256_set_m128i(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)),
                         _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    const Bgr out = distorted<kMode>({reinterpret_cast<I8>(_mm256_shuffle_epi8(pixels, blue)),
                                      reinterpret_cast<I8>(_mm256_shuffle_epi8(pixels, green)),
                                      reinterpret_cast<I8>(_mm256_shuffle_epi8(pixels, red))},
                                     row.steps);
    const auto wide = reinterpret_cast<__m256i>(out.blue | (out.green << 8) | (out.red << 16));
    const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(wide, close), join);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(bytes));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p + 16), _mm256_extracti128_si256(bytes, 1));
  }
}
#endif

template <Mode kMode>
void distort_plain(const Row& row) {
  for (int x = 0; x < row.count; x += 8) {
    uint8_t* p = row.pixels + 3 * x;
    Bgr in;
    for (int i = 0; i < 8; ++i) {
      in.blue[i] = p[3 * i];
      in.green[i] = p[3 * i + 1];
      in.red[i] = p[3 * i + 2];
    }
    const Bgr out = distorted<kMode>(in, row.steps);
    for (int i = 0; i < 8; ++i) {
      p[3 * i] = static_cast<uint8_t>(out.blue[i]);
      p[3 * i + 1] = static_cast<uint8_t>(out.green[i]);
      p[3 * i + 2] = static_cast<uint8_t>(out.red[i]);
    }
  }
}

using DistortRow = void (*)(const Row&);

template <bool kRounds>
DistortRow fastest() {
#if defined(__x86_64__)
  if (has_avx2_and_fma()) {
    return distort_avx2<Mode{.rounds = kRounds, .fused = true}>;
  }
#endif
  return distort_plain<Mode{.rounds = kRounds, .fused = false}>;
}

/// Changes what a table has bytes become, in place of each.
void change_table(std::optional<detail::ByteTable>& table, float factor, float added) {
  using Eight = uint8_t __attribute__((vector_size(vec::kLanes)));
  if (!table) std::iota(table.emplace().bytes.begin(), table->bytes.end(), uint8_t{0});
  for (size_t i = 0; i < table->bytes.size(); i += vec::kLanes) {
    uint8_t* at = table->bytes.data() + i;
    const I8 changed = byte(__builtin_convertvector(vec::load_as<Eight>(at), F8) * factor + added);
    vec::store_as(at, __builtin_convertvector(changed, Eight));
  }
}

detail::TabledDistortion tabled(const Steps& d) {
  detail::TabledDistortion out;
  if (d.brightness) change_table(out.before, 1.0F, d.added);
  if (d.contrast) change_table(d.contrast_first ? out.before : out.after, d.contrast_factor, 0.0F);
  if (d.saturation) change_table(out.saturation, d.saturation_factor, 0.0F);
  if (d.hue) out.hue = d.hue_added;
  return out;
}

}  // namespace

void distort_colours(cv::Mat& image, const Distortion& drawn) {
  if (!drawn.brightness && !drawn.contrast && !drawn.saturation && !drawn.hue) return;
  make_unique(image);
  const Steps steps{
      .brightness = drawn.brightness.has_value(),
      .contrast = drawn.contrast.has_value(),
      .contrast_first = drawn.contrast_first,
      .saturation = drawn.saturation.has_value(),
      .hue = drawn.hue.has_value(),
      .added = static_cast<float>(drawn.brightness.value_or(0)),
      .contrast_factor = static_cast<float>(drawn.contrast.value_or(1)),
      .saturation_factor = static_cast<float>(drawn.saturation.value_or(1)),
      .hue_added = static_cast<int32_t>((drawn.hue.value_or(0) % kHues + kHues) % kHues)};
  static const DistortRow distort = fastest<false>(), distort_rounding = fastest<true>();
  const bool by_64 = detail::has_avx512_vbmi();
  const auto tables = by_64 ? tabled(steps) : detail::TabledDistortion();
  const int whole = image.cols / kTruncated * kTruncated, rest = image.cols - whole;
  std::array<uint8_t, 3 * kTruncated> last{};
  for (int y = 0; y < image.rows; ++y) {
    auto* row = image.ptr<uint8_t>(y);
    const int done = by_64 ? detail::distort_by_64(row, whole, tables) : 0;
    distort({row + 3 * done, whole - done, steps});
    if (rest == 0) continue;
    std::copy_n(row + 3 * whole, 3 * rest, last.begin());
    distort_rounding({last.data(), (rest + 7) / 8 * 8, steps});
    std::copy_n(last.begin(), 3 * rest, row + 3 * whole);
  }
}

}  // namespace seg
