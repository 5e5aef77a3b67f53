// Overlap along the outlines of classes.
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <cmath>
#include <limits>
#include <opencv2/imgproc.hpp>

#include "segcore/evaluation/metric.hpp"

namespace seg {

struct BoundaryIoUMetricParams {
  int64_t ignore_index = 255;
  double dilation_ratio = 0.02;
  std::optional<std::string> prefix;
};

namespace {

/// Pixels of a mask that are no further from its outline than `width`; the image's border is an
/// outline, too.
/// \param mask  uint8, 0 or 1
cv::Mat outline_of(const cv::Mat& mask, int width) {
  cv::Mat inner;
  const int side = 2 * width + 1;
  cv::erode(mask, inner, cv::getStructuringElement(cv::MORPH_RECT, {side, side}), {-1, -1}, 1,
            cv::BORDER_CONSTANT, cv::Scalar(0));
  return mask - inner;
}

/// Where a map of int64 ids is `id`.
cv::Mat mask_of(const at::Tensor& ids, int64_t id) {
  const at::Tensor mask = ids.eq(id).to(at::kByte).contiguous();
  return cv::Mat(static_cast<int>(mask.size(0)), static_cast<int>(mask.size(1)), CV_8U,
                 mask.data_ptr<uint8_t>())
      .clone();
}

}  // namespace

/// IoU of the pixels of each class near its outline, summed over all images as IoUMetric sums.
class BoundaryIoUMetric final : public Metric {
 public:
  using Params = BoundaryIoUMetricParams;
  static Schema<Params> schema() {
    return Schema<Params>("Overlap of prediction and truth near the outlines of classes.")
        .source("Cheng et al. 2021, arXiv:2103.16562")
        .optional("ignore_index", &Params::ignore_index, "label of pixels that do not count")
        .optional("dilation_ratio", &Params::dilation_ratio,
                  "how far from an outline counts, in diagonals of the image", above(0))
        .optional("prefix", &Params::prefix, "goes before the names of results: prefix/mBIoU");
  }
  BoundaryIoUMetric(const Params& p, const DatasetMeta& meta) : p_(p), classes_(meta.classes) {
    reset();
  }
  std::optional<int64_t> ignore_index() const override { return p_.ignore_index; }

  void process(const Prediction& prediction, const PackedSample& sample) override {
    const std::string& name = sample.meta.img_path;
    if (!sample.labels.defined()) {
      throw DataError(text(name,
                           ": has no labels to compare the prediction with. Give the data "
                           "set data_prefix.seg_map_path and its pipeline LoadAnnotations"));
    }
    const at::Tensor labels = sample.labels.to(at::kLong);
    const at::Tensor ids = class_ids_of(prediction, sample).cpu().to(at::kLong);
    if (ids.sizes() != labels.sizes()) {
      throw DataError(text(name, ": the prediction is ", ids.size(0), " x ", ids.size(1),
                           ", the labels are ", labels.size(0), " x ", labels.size(1),
                           " (height x width); labels must not be resized in a test pipeline"));
    }
    // What is ignored is of no class in either.
    const at::Tensor found = ids.masked_fill(labels.eq(p_.ignore_index), p_.ignore_index);
    const double diagonal = std::hypot(static_cast<double>(labels.size(0)), labels.size(1));
    const int width = std::max(1, static_cast<int>(std::lround(p_.dilation_ratio * diagonal)));
    auto* both = counts_.data_ptr<int64_t>();
    auto* either = both + classes_.size();
    for (size_t c = 0; c < classes_.size(); ++c) {
      const auto id = static_cast<int64_t>(c);
      const cv::Mat truth_mask = mask_of(labels, id), found_mask = mask_of(found, id);
      if (cv::countNonZero(truth_mask) == 0 && cv::countNonZero(found_mask) == 0) continue;
      const cv::Mat truth = outline_of(truth_mask, width),
                    predicted = outline_of(found_mask, width);
      both[c] += cv::countNonZero(truth & predicted);
      either[c] += cv::countNonZero(truth | predicted);
    }
  }

  MetricResult compute(Communicator& communicator) override {
    at::Tensor sum = counts_.clone();
    communicator.all_reduce_sum_(sum);
    reset();
    MetricResult result;
    const std::string before = p_.prefix ? *p_.prefix + "/" : "";
    double total = 0, defined = 0;
    for (size_t c = 0; c < classes_.size(); ++c) {
      const auto both = static_cast<double>(sum[0][static_cast<int64_t>(c)].item<int64_t>());
      const auto either = static_cast<double>(sum[1][static_cast<int64_t>(c)].item<int64_t>());
      const double iou = either > 0 ? both / either : std::numeric_limits<double>::quiet_NaN();
      if (either > 0) {
        total += iou;
        ++defined;
      }
      result.per_class.emplace_back(before + "BIoU." + classes_[c], rounded_percent(iou));
    }
    const double mean = defined > 0 ? total / defined : std::numeric_limits<double>::quiet_NaN();
    result.scalars.emplace_back(before + "mBIoU", rounded_percent(mean));
    return result;
  }

 private:
  static double rounded_percent(double share) { return std::nearbyint(share * 10000) / 100; }
  void reset() { counts_ = at::zeros({2, static_cast<int64_t>(classes_.size())}, at::kLong); }

  Params p_;
  std::vector<std::string> classes_;
  at::Tensor counts_;  ///< int64 [2, classes]: pixels of both outlines, and of either
};
SEG_REGISTER(Metric, BoundaryIoUMetric);

}  // namespace seg
