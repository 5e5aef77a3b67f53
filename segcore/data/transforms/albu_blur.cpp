/// Albumentations that blur an image.
#include <opencv2/imgproc.hpp>

#include "segcore/data/transforms/albu.hpp"

namespace seg {

struct AlbuBlurParams : AlbuParams {
  std::variant<int64_t, std::array<int64_t, 2>> blur_limit = int64_t{7};
};

struct AlbuGaussianBlurParams : AlbuBlurParams {
  AlbuGaussianBlurParams() { blur_limit = std::array<int64_t, 2>{3, 7}; }
  AlbuLimit sigma_limit = 0.0;
};

namespace {

std::array<int64_t, 2> albu_kernel_range(const AlbuBlurParams& p, int64_t low) {
  if (const auto* one = std::get_if<int64_t>(&p.blur_limit)) {
    return {std::min(low, *one), std::max(low, *one)};
  }
  return std::get<std::array<int64_t, 2>>(p.blur_limit);
}

void check_albu_kernels(const AlbuBlurParams& p, int64_t least, Problems& problems) {
  const auto [low, high] = albu_kernel_range(p, least);
  if (low > high) problems.error("blur_limit", "the lower bound must not be above the upper one");
  const auto fits = [least](int64_t side) { return side % 2 == 1 || (least == 0 && side == 0); };
  if (!fits(low) || !fits(high)) {
    problems.error("blur_limit",
                   text("must be ", least == 0 ? "0 or odd" : "odd", ", got ", low, " and ", high));
  }
}

/// \tparam kMedian  by the median, else by the mean.
template <bool kMedian>
class AlbuBoxBlur final : public AlbuTransform {
 public:
  using Params = AlbuBlurParams;
  static Schema<Params> schema() {
    return albu_schema<Params>(kMedian ? "Blurs by the median of a square; for 8-bit images."
                                       : "Blurs by the mean of a square.")
        .optional("blur_limit", &Params::blur_limit,
                  "bounds of its side in pixels, an odd number is drawn; one number v is 3 to v",
                  at_least(1))
        .validate([](const Params& p, Problems& problems) { check_albu_kernels(p, 3, problems); });
  }
  explicit AlbuBoxBlur(const Params& p) : AlbuTransform(p), range_(albu_kernel_range(p, 3)) {}
  void apply(Sample& sample, Rng& rng) const override {
    require_albu_image(sample, kMedian ? "MedianBlur" : "Blur", 0, kMedian);
    const int64_t steps = (range_[1] - range_[0]) / 2 + 1;
    const int side = static_cast<int>(range_[0] + 2 * rng.below(steps));
    for_albu_images(sample, [&](cv::Mat& image) {
      if (kMedian) {
        cv::medianBlur(image, image, side);
      } else {
        cv::blur(image, image, cv::Size(side, side));
      }
    });
  }

 private:
  std::array<int64_t, 2> range_;
};
using AlbuBlur = AlbuBoxBlur<false>;
using AlbuMedianBlur = AlbuBoxBlur<true>;
SEG_REGISTER_AS(AlbuTransform, AlbuBlur, "Blur");
SEG_REGISTER_AS(AlbuTransform, AlbuMedianBlur, "MedianBlur");

class AlbuGaussianBlur final : public AlbuTransform {
 public:
  using Params = AlbuGaussianBlurParams;
  static Schema<Params> schema() {
    return albu_schema<Params>("Blurs with a Gaussian.")
        .optional(
            "blur_limit", &Params::blur_limit,
            "bounds of the kernel's side, odd or 0, which follows from sigma; one number v is "
            "0 to v",
            at_least(0))
        .optional("sigma_limit", &Params::sigma_limit,
                  "bounds of sigma, one number v is 0 to v; 0 follows from the kernel's side",
                  at_least(0))
        .validate([](const Params& p, Problems& problems) { check_albu_kernels(p, 0, problems); });
  }
  explicit AlbuGaussianBlur(const Params& p)
      : AlbuTransform(p),
        range_(albu_kernel_range(p, 0)),
        sigma_(albu_range_from(0, p.sigma_limit)) {
    if (range_[0] == 0 && sigma_[0] == 0) range_ = {3, std::max<int64_t>(3, range_[1])};
  }
  void apply(Sample& sample, Rng& rng) const override {
    require_albu_image(sample, "GaussianBlur", 0, false);
    int64_t side = range_[0] + rng.below(range_[1] - range_[0] + 1);
    if (side != 0 && side % 2 == 0) side = (side + 1) % (range_[1] + 1);
    const double sigma = rng.uniform(sigma_[0], sigma_[1]);
    for_albu_images(sample, [&](cv::Mat& image) {
      cv::GaussianBlur(image, image, cv::Size(static_cast<int>(side), static_cast<int>(side)),
                       sigma);
    });
  }

 private:
  std::array<int64_t, 2> range_;
  std::array<double, 2> sigma_;
};
SEG_REGISTER_AS(AlbuTransform, AlbuGaussianBlur, "GaussianBlur");

}  // namespace
}  // namespace seg
