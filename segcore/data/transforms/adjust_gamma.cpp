#include <cmath>

#include "segcore/data/transform.hpp"
#include "segcore/data/transforms/pixels.hpp"

namespace seg {

struct AdjustGammaParams {
  double gamma = 1.0;
};

namespace {

class AdjustGamma final : public Transform {
 public:
  using Params = AdjustGammaParams;
  static Schema<Params> schema() {
    return Schema<Params>("Raises the values of an 8-bit image to the power of 1 / gamma.")
        .source("MMSegmentation 1.2")
        .optional("gamma", &Params::gamma, "above 1 is brighter, below 1 darker", above(0));
  }
  explicit AdjustGamma(const Params& p) {
    for (size_t i = 0; i < table_.size(); ++i) {
      table_[i] =
          static_cast<uint8_t>(std::pow(static_cast<double>(i) / 255.0, 1.0 / p.gamma) * 255.0);
    }
  }

  void apply(Sample& sample, Rng&) const override {
    require_image(sample, "AdjustGamma");
    require_bytes(sample, "AdjustGamma");
    make_unique(sample.image);
    apply_table(sample.image, table_);
  }

 private:
  std::array<uint8_t, 256> table_{};
};
SEG_REGISTER(Transform, AdjustGamma);

}  // namespace
}  // namespace seg
