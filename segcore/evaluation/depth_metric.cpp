// Errors of estimated depth.
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <limits>

#include "registry/log.hpp"
#include "segcore/evaluation/metric.hpp"

namespace seg {
namespace {

const std::vector<std::string> kDepthMetrics{"d1",   "d2",       "d3",    "abs_rel", "sq_rel",
                                             "rmse", "rmse_log", "log10", "silog"};

/// The values of kDepthMetrics for one image, double [9].
/// \param truth, depth  float [pixels]
at::Tensor depth_errors(const at::Tensor& truth, const at::Tensor& depth) {
  const at::Tensor ratio = at::maximum(truth / depth, depth / truth);
  const at::Tensor diff = depth - truth, diff_log = depth.log() - truth.log();
  const at::Tensor squares_log = diff_log.square().mean();
  const auto share_below = [&](double bound) { return ratio.lt(bound).to(at::kFloat).mean(); };
  return at::stack({
                       share_below(1.25),
                       share_below(1.25 * 1.25),
                       share_below(1.25 * 1.25 * 1.25),
                       (diff.abs() / truth).mean(),
                       (diff.square() / truth).mean(),
                       diff.square().mean().sqrt(),
                       squares_log.sqrt(),
                       (depth.log10() - truth.log10()).abs().mean(),
                       (squares_log - 0.5 * diff_log.mean().square()).sqrt(),
                   })
      .to(at::kCPU, at::kDouble);
}

}  // namespace

struct DepthMetricParams {
  std::optional<std::vector<std::string>> depth_metrics;
  double min_depth_eval = 0;
  double max_depth_eval = std::numeric_limits<double>::infinity();
  std::optional<std::string> crop_type;
  std::string collect_device = "cpu";
  std::optional<std::string> output_dir;
  bool format_only = false;
  double depth_scale_factor = 1000;
  std::optional<std::string> prefix;
};

class DepthMetric final : public Metric {
 public:
  using Params = DepthMetricParams;
  static Schema<Params> schema() {
    return Schema<Params>("Errors of estimated depth: of each image, and their mean over images.")
        .source("Eigen, Puhrsch, Fergus 2014, arXiv:1406.2283; MMSegmentation 1.2")
        .optional("depth_metrics", &Params::depth_metrics,
                  "d1, d2, d3 (shares within 1.25, 1.25^2, 1.25^3), abs_rel, sq_rel, rmse, "
                  "rmse_log, log10, silog; null: all",
                  one_of(kDepthMetrics))
        .optional("min_depth_eval", &Params::min_depth_eval, "depth that counts is above it")
        .optional("max_depth_eval", &Params::max_depth_eval, "depth that counts is below it")
        .optional("crop_type", &Params::crop_type,
                  "nyu_crop: only rows 45 to 470 and columns 41 to 600 count", one_of({"nyu_crop"}))
        .optional("collect_device", &Params::collect_device,
                  "accepted; errors are summed on their own device", one_of({"cpu", "gpu"}))
        .optional("prefix", &Params::prefix, "goes before the names of results")
        .optional("output_dir", &Params::output_dir,
                  "folder for the estimates, PNG files of 16 bits; null: none")
        .optional("depth_scale_factor", &Params::depth_scale_factor,
                  "factor of depth in these files", above(0))
        .optional("format_only", &Params::format_only,
                  "only writes the estimates and needs no true depth")
        .validate([](const Params& p, Problems& problems) {
          if (p.format_only && !p.output_dir) {
            problems.error("output_dir", "is needed by format_only");
          }
        });
  }
  DepthMetric(const Params& p, const DatasetMeta&)
      : p_(p), chosen_(p.depth_metrics.value_or(kDepthMetrics)) {
    reset();
  }

  std::optional<PredictionOutput> output() const override {
    if (!p_.output_dir) return std::nullopt;
    return PredictionOutput{.folder = *p_.output_dir,
                            .only = p_.format_only,
                            .values = {},
                            .depth_scale = p_.depth_scale_factor};
  }
  void process(const Prediction& prediction, const PackedSample& sample) override {
    if (p_.format_only) return;
    const std::string& name = sample.meta.img_path;
    if (!sample.depth.defined()) {
      throw DataError(text(name,
                           ": has no depth to compare the prediction with. Use NYUDataset with "
                           "data_prefix.depth_map_path, and LoadDepthAnnotation in its pipeline"));
    }
    if (!prediction.depth.defined()) {
      throw DataError(text(name, ": the model estimates no depth, which DepthMetric measures"));
    }
    const at::Tensor depth = prediction.depth.to(at::kFloat);
    const at::Tensor truth = sample.depth.to(depth.device());
    if (depth.sizes() != truth.sizes()) {
      throw DataError(text(name, ": the estimated depth is ", depth.size(0), " x ", depth.size(1),
                           ", the true one ", truth.size(0), " x ", truth.size(1),
                           " (height x width); depth must not be resized in a test pipeline"));
    }
    at::Tensor counted = truth.gt(p_.min_depth_eval) & truth.lt(p_.max_depth_eval);
    if (p_.crop_type) {
      // The part of the images of 480 x 640 that Eigen et al. compare.
      const at::Tensor inside = at::zeros_like(counted);
      inside.slice(0, 45, 471).slice(1, 41, 601).fill_(true);
      counted = counted & inside;
    }
    const at::Tensor true_depth = truth.masked_select(counted);
    if (true_depth.numel() == 0) {
      log::warn(name, ": no pixel has a depth that counts; the image is left out of DepthMetric");
      return;
    }
    sums_.slice(0, 0, kCount).add_(depth_errors(true_depth, depth.masked_select(counted)));
    sums_[kCount] += 1;
  }

  MetricResult compute(Communicator& communicator) override {
    at::Tensor sums = sums_;
    communicator.all_reduce_sum_(sums);
    reset();
    MetricResult out;
    if (p_.format_only) return out;
    for (size_t i = 0; i < kDepthMetrics.size(); ++i) {
      const std::string& name = kDepthMetrics[i];
      if (std::find(chosen_.begin(), chosen_.end(), name) == chosen_.end()) continue;
      const auto at = static_cast<int64_t>(i);
      out.scalars.emplace_back(p_.prefix ? *p_.prefix + "/" + name : name,
                               sums[at].item<double>() / sums[kCount].item<double>());
    }
    return out;
  }

 private:
  static constexpr int64_t kCount = 9;
  void reset() { sums_ = at::zeros({kCount + 1}, at::kDouble); }

  Params p_;
  std::vector<std::string> chosen_;
  at::Tensor sums_;  ///< of the errors over images, and the number of images
};
SEG_REGISTER(Metric, DepthMetric);

}  // namespace seg
