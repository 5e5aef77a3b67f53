#include "segcore/data/transform.hpp"
#include "segcore/data/transforms/pixels.hpp"

namespace seg {

struct RandomDepthMixParams {
  double prob = 0.25;
  double mix_scale_ratio = 0.75;
};

namespace {

class RandomDepthMix final : public Transform {
 public:
  using Params = RandomDepthMixParams;
  static Schema<Params> schema() {
    return Schema<Params>(
               "Replaces the columns of a random strip of the image by the depth as it is in the "
               "file; bytes keep its lowest eight bits.")
        .source(
            "Kim et al. 2022, Vertical CutDepth of GLPDepth, arXiv:2201.07436; MMSegmentation 1.2")
        .optional("prob", &Params::prob, "probability of a strip", in_range(0, 1))
        .optional("mix_scale_ratio", &Params::mix_scale_ratio,
                  "largest width, as a share of what is right of its left edge", in_range(0, 1));
  }
  explicit RandomDepthMix(const Params& p) : p_(p) {}

  void apply(Sample& sample, Rng& rng) const override {
    require_image(sample, "RandomDepthMix");
    if (!rng.chance(p_.prob)) return;
    const double place = rng.uniform(), share = rng.uniform() * p_.mix_scale_ratio;
    if (sample.depth.size() != sample.image.size()) {
      throw DataError(text(sample_name(sample),
                           ": RandomDepthMix needs a map of depth of the size of the image: put a "
                           "LoadDepthAnnotation before it"));
    }
    const int width = sample.image.cols;
    const int left = static_cast<int>(width * place);
    const int columns = static_cast<int>(std::max(1.0, (width - left) * share));
    make_unique(sample.image);
    switch (sample.image.depth()) {
      case CV_8U:
        return mix<uint8_t>(sample, left, columns);
      case CV_16U:
        return mix<uint16_t>(sample, left, columns);
      default:
        return mix<float>(sample, left, columns);
    }
  }

 private:
  template <class T>
  static void mix(Sample& sample, int left, int columns) {
    const auto factor = static_cast<float>(sample.depth_rescale_factor);
    const int bands = sample.image.channels();
    for (int y = 0; y < sample.image.rows; ++y) {
      const float* depth = sample.depth.ptr<float>(y);
      T* pixel = sample.image.ptr<T>(y) + left * bands;
      for (int x = left; x < left + columns; ++x) {
        const float value = depth[x] / factor;
        for (int band = 0; band < bands; ++band) {
          if constexpr (std::is_same_v<T, float>) {
            *pixel++ = value;
          } else {
            *pixel++ = static_cast<T>(static_cast<int64_t>(value));
          }
        }
      }
    }
  }

  Params p_;
};
SEG_REGISTER(Transform, RandomDepthMix);

}  // namespace
}  // namespace seg
