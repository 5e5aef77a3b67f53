/// The order in which samples are drawn, as a function of the position in the run: a resumed run
/// starts anywhere without replaying earlier draws.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "registry/registry.hpp"

namespace seg {

/// One draw: which sample, and in which pass over the data set (for the sample's Rng).
struct Draw {
  size_t index = 0;
  uint64_t epoch = 0;
  bool padding = false;  ///< repeats another sample so that all ranks have equally many
};

/// The samples of one rank, in the order of the run.
class Sampler {
 public:
  virtual ~Sampler() = default;
  /// Samples of this rank in one pass over the data set.
  virtual size_t size() const = 0;
  /// One endless stream without boundaries between passes: no pass ends in a short batch.
  virtual bool endless() const = 0;
  /// The `position`-th sample of this rank since the beginning of the run, from 0. Cheap where
  /// positions rise; not thread-safe.
  virtual Draw at(uint64_t position) = 0;
};

template <>
struct Category<Sampler> {
  static constexpr std::string_view name = "sampler";
  /// (size of the data set, seed of the run, rank, number of ranks)
  using Signature = std::unique_ptr<Sampler>(size_t, uint64_t, int, int);
};

}  // namespace seg
