#include <opencv2/core.hpp>

#include "segcore/data/transform.hpp"
#include "segcore/data/transforms/pixels.hpp"

namespace seg {

struct ConcatCDInputParams {
  std::vector<std::string> input_keys{"img", "img2"};
};

namespace {

class ConcatCDInput final : public Transform {
 public:
  using Params = ConcatCDInputParams;
  static Schema<Params> schema() {
    return Schema<Params>("Joins the bands of the two images of a sample to one image.")
        .source("MMSegmentation 1.2")
        .optional("input_keys", &Params::input_keys, "the images in the order of their bands",
                  one_of({"img", "img2"}));
  }
  explicit ConcatCDInput(const Params& p) : p_(p) {}

  void apply(Sample& sample, Rng&) const override {
    require_image(sample, "ConcatCDInput");
    if (sample.image2.empty()) {
      throw DataError(text(sample_name(sample),
                           ": ConcatCDInput has no second image to join: the data set must be a "
                           "BaseCDDataset, and LoadMultipleRSImageFromFile a step before"));
    }
    std::vector<cv::Mat> images;
    for (const auto& key : p_.input_keys) {
      images.push_back(key == "img" ? sample.image : sample.image2);
    }
    cv::merge(images, sample.image);
    sample.image2.release();
  }

 private:
  Params p_;
};
SEG_REGISTER(Transform, ConcatCDInput);

}  // namespace
}  // namespace seg
