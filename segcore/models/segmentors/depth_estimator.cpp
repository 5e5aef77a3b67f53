#include "segcore/models/segmentors/encoder_decoder.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

/// The depth of an image, float [ori H, ori W]: the mean over its augmentations.
Prediction mean_depth(const std::vector<LogitRows>& sources) {
  torch::Tensor sum;
  for (const LogitRows& rows : sources) {
    const auto depth = rows.rows(0, rows.height())[0];
    sum = sum.defined() ? sum + depth : depth;
  }
  return {.depth = sum / static_cast<double>(sources.size())};
}

}  // namespace

/// A backbone, an optional neck and a head that estimates the depth of each pixel.
class DepthEstimator final : public EncoderDecoder {
 public:
  using Params = EncoderDecoderParams;
  static Schema<Params> schema() {
    return Schema<Params>("An encoder and a head that estimates depth.")
        .source("MMSegmentation 1.2, DepthEstimator")
        .include(EncoderDecoder::schema());
  }
  static SegmentorFacts facts(const Params&) { return {.heads = {}, .estimates_depth = true}; }
  explicit DepthEstimator(const Params& p) : EncoderDecoder(p, Kind::kDepth) {}

  std::vector<Prediction> predict(const ModelInput& input) override { return predict_tta({input}); }
  Prediction predict_windows(const ModelInput& input, Size2 crop, Size2 stride) override {
    SEG_CHECK(input.images.size(0) == 1, "expected one image, got ", input.images.size(0));
    return mean_depth(rows(input, crop, stride));
  }
  std::vector<Prediction> predict_tta(const std::vector<ModelInput>& augmented) override {
    std::vector<Prediction> out;
    for (const auto& sources : rows_by_image(augmented)) out.push_back(mean_depth(sources));
    return out;
  }
  std::vector<Prediction> predict_scores(const std::vector<ModelInput>& augmented) override {
    return predict_tta(augmented);
  }
};
SEG_REGISTER(Segmentor, DepthEstimator);

}  // namespace seg
