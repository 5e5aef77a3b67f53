#include <opencv2/imgproc.hpp>

#include "segcore/data/transform.hpp"
#include "segcore/data/transforms/pixels.hpp"

namespace seg {

struct GenerateEdgeParams {
  int64_t edge_width = 3;
  int64_t ignore_index = 255;
};

namespace {

class GenerateEdge final : public Transform {
 public:
  using Params = GenerateEdgeParams;
  static Schema<Params> schema() {
    return Schema<Params>("Marks where classes meet, for heads that learn edges.")
        .source("CE2P, Ruan et al. 2018, arXiv:1809.05996; MMSegmentation 1.2")
        .optional("edge_width", &Params::edge_width, "width of the edges in pixels", at_least(1))
        .optional("ignore_index", &Params::ignore_index, "label that makes no edges");
  }
  explicit GenerateEdge(const Params& p) : p_(p) {}

  TransformTraits traits() const override { return {.labels_only = true}; }
  void apply(Sample& sample, Rng&) const override {
    if (sample.labels.empty()) {
      throw DataError(text(sample_name(sample),
                           ": GenerateEdge has no labels to work on: put a "
                           "LoadAnnotations before it"));
    }
    cv::Mat labels;
    sample.labels.convertTo(labels, CV_32S);
    cv::Mat edges = cv::Mat::zeros(labels.size(), CV_8U);
    const auto mark = [&](int y, int x, int other_y, int other_x) {
      const int32_t a = labels.at<int32_t>(y, x), b = labels.at<int32_t>(other_y, other_x);
      if (a != b && a != p_.ignore_index && b != p_.ignore_index) edges.at<uint8_t>(y, x) = 1;
    };
    for (int y = 0; y < labels.rows; ++y) {
      for (int x = 0; x < labels.cols; ++x) {
        const bool right = x + 1 < labels.cols, below = y + 1 < labels.rows;
        if (y > 0) mark(y, x, y - 1, x);
        if (right) mark(y, x, y, x + 1);
        if (right && below) mark(y, x, y + 1, x + 1);
        if (below && x > 0) mark(y, x, y + 1, x - 1);
      }
    }
    const int width = static_cast<int>(p_.edge_width);
    cv::dilate(edges, sample.edges,
               cv::getStructuringElement(cv::MORPH_RECT, cv::Size(width, width)));
  }

 private:
  Params p_;
};
SEG_REGISTER(Transform, GenerateEdge);

}  // namespace
}  // namespace seg
