/// Transforms of Albumentations, which Albu runs. They are a category of their own, because several
/// have the name of one of MMSegmentation's and other options.
#pragma once
#include <array>
#include <functional>
#include <memory>
#include <opencv2/core/mat.hpp>
#include <string>
#include <variant>

#include "registry/registry.hpp"
#include "segcore/data/rng.hpp"
#include "segcore/data/sample.hpp"

namespace seg {

struct AlbuParams {
  double p = 0.5;
  bool always_apply = false;
};

/// Const: workers run one object in parallel, and all randomness is `rng`'s.
class AlbuTransform {
 public:
  explicit AlbuTransform(const AlbuParams& params) : p_(params.p), always_(params.always_apply) {}
  virtual ~AlbuTransform() = default;
  /// Applies itself with its probability.
  void run(Sample& sample, Rng& rng) const {
    if (always_ || rng.chance(p_)) apply(sample, rng);
  }
  /// \throws DataError naming the image, where it does not fit.
  virtual void apply(Sample& sample, Rng& rng) const = 0;
  /// Its probability, or weight among others.
  double p() const { return p_; }

 private:
  double p_;
  bool always_;
};

template <>
struct Category<AlbuTransform> {
  static constexpr std::string_view name = "albumentation";
  using Signature = std::unique_ptr<AlbuTransform>();
};

/// The options that all have, with the defaults of P.
template <class P>
Schema<P> albu_schema(const std::string& summary) {
  return Schema<P>(summary)
      .source("Buslaev et al. 2020, Albumentations, doi:10.3390/info11020125; version 1.3.1")
      .optional("p", &P::p, "probability; among others its weight", in_range(0, 1))
      .optional("always_apply", &P::always_apply, "apply whatever p is");
}

/// Bounds of a draw: two numbers, or one.
using AlbuLimit = std::variant<double, std::array<double, 2>>;
/// One number v stands for -v to v.
std::array<double, 2> albu_range(const AlbuLimit& limit);
/// One number v stands for `low` to v.
std::array<double, 2> albu_range_from(double low, const AlbuLimit& limit);

/// Calls `change` for the image, and for the second one of a pair, which gets the same change.
void for_albu_images(Sample& sample, const std::function<void(cv::Mat&)>& change);

/// \throws DataError where the images are not of the given bands (0: any), or floats where only
/// bytes are taken.
void require_albu_image(const Sample& sample, std::string_view transform, int bands,
                        bool only_bytes);

}  // namespace seg
