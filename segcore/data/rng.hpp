/// Counted randomness: every draw is a function of (seed, purpose, epoch, sample, draw number), so
/// that workers, processes and resumes cannot change what a sample looks like.
#pragma once
#include <ATen/core/PhiloxRNGEngine.h>

#include <cstdint>

namespace seg {

/// Separates the streams of different uses that share seed, epoch and sample.
enum class RngPurpose : uint64_t { kAugmentation = 1, kSampler = 2, kSynthetic = 3, kCheck = 4 };

/// Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
class Rng {
 public:
  /// \param epoch   pass over the data set, from 0.
  /// \param sample  index into the data set.
  Rng(uint64_t seed, RngPurpose purpose, uint64_t epoch, uint64_t sample)
      : engine_(seed ^ (static_cast<uint64_t>(purpose) * 0x9E3779B97F4A7C15ULL),
                /*subsequence=*/epoch, /*offset=*/sample << 24) {}

  uint32_t bits() { return engine_(); }
  /// In [0, 1), 53 bits.
  double uniform() {
    const uint64_t high = bits() >> 5, low = bits() >> 6;
    return static_cast<double>((high << 26) | low) * 0x1.0p-53;
  }
  /// In [low, high).
  double uniform(double low, double high) { return low + (high - low) * uniform(); }
  /// An integer in [0, n), n >= 1; the bias is below n / 2^53.
  int64_t below(int64_t n) { return static_cast<int64_t>(uniform() * static_cast<double>(n)); }
  /// True with this probability.
  bool chance(double probability) { return uniform() < probability; }

 private:
  at::Philox4_32 engine_;
};

}  // namespace seg
