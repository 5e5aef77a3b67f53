#include <opencv2/imgproc.hpp>

#include "segcore/data/transform.hpp"
#include "segcore/data/transforms/pixels.hpp"

namespace seg {

struct ClaheParams {
  double clip_limit = 40.0;
  std::array<int64_t, 2> tile_grid_size{8, 8};
};

namespace {

class CLAHE final : public Transform {
 public:
  using Params = ClaheParams;
  static Schema<Params> schema() {
    return Schema<Params>(
               "Equalises the histogram of each band tile by tile, with limited "
               "contrast; for 8-bit images.")
        .source(
            "Zuiderveld 1994, Contrast Limited Adaptive Histogram Equalization; "
            "MMSegmentation 1.2")
        .optional("clip_limit", &Params::clip_limit, "limit of the contrast")
        .optional("tile_grid_size", &Params::tile_grid_size, "tiles in a row and in a column",
                  at_least(1));
  }
  explicit CLAHE(const Params& p) : p_(p) {}

  void apply(Sample& sample, Rng&) const override {
    require_image(sample, "CLAHE");
    require_bytes(sample, "CLAHE");
    make_unique(sample.image);
    // One object for each call: it keeps buffers, and workers run this in parallel.
    const auto clahe = cv::createCLAHE(
        p_.clip_limit,
        cv::Size(static_cast<int>(p_.tile_grid_size[0]), static_cast<int>(p_.tile_grid_size[1])));
    cv::Mat band, equalised;
    for (int i = 0; i < sample.image.channels(); ++i) {
      cv::extractChannel(sample.image, band, i);
      clahe->apply(band, equalised);
      cv::insertChannel(equalised, sample.image, i);
    }
  }

 private:
  Params p_;
};
SEG_REGISTER(Transform, CLAHE);

}  // namespace
}  // namespace seg
