// Overlap of prediction and truth, from three counts of pixels per class.
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <cmath>
#include <limits>

#include "registry/log.hpp"
#include "registry/printed.hpp"
#include "segcore/evaluation/metric.hpp"
#include "segcore/ops/class_histogram/class_histogram.hpp"

namespace seg {
namespace {

/// One column of the table of classes.
struct IouColumn {
  std::string name, mean_name;  ///< "IoU", "mIoU"
  std::vector<double> values;
};

constexpr double kIouNan = std::numeric_limits<double>::quiet_NaN();

double iou_ratio(double a, double b) { return b == 0 ? kIouNan : a / b; }

/// In percent with two decimals.
double iou_percent(double share) { return std::nearbyint(share * 10000) / 100; }

/// The mean of the values that are defined.
double iou_mean(const std::vector<double>& values) {
  double sum = 0, n = 0;
  for (const double v : values) {
    if (std::isnan(v)) continue;
    sum += v;
    n += 1;
  }
  return iou_ratio(sum, n);
}

double iou_sum(const std::vector<double>& values) {
  double sum = 0;
  for (const double v : values) sum += v;
  return sum;
}

/// Pixels of each class.
struct IouCounts {
  std::vector<double> both, predicted, labelled;

  /// \param counts  int64 [3, classes + 1], on the CPU
  explicit IouCounts(const at::Tensor& counts) {
    const auto row = [&](int64_t k) {
      const int64_t* from = counts.const_data_ptr<int64_t>() + k * counts.size(1);
      return std::vector<double>(from, from + counts.size(1) - 1);
    };
    both = row(0);
    predicted = row(1);
    labelled = row(2);
  }
  double iou(size_t c) const { return iou_ratio(both[c], predicted[c] + labelled[c] - both[c]); }
  double dice(size_t c) const { return iou_ratio(2 * both[c], predicted[c] + labelled[c]); }
  double recall(size_t c) const { return iou_ratio(both[c], labelled[c]); }
  double precision(size_t c) const { return iou_ratio(both[c], predicted[c]); }
  double f_score(size_t c, double beta) const {
    const double b = beta * beta, p = precision(c), r = recall(c);
    return iou_ratio((1 + b) * (p * r), b * p + r);
  }
  double accuracy() const { return iou_ratio(iou_sum(both), iou_sum(labelled)); }
  /// IoU weighted by the pixels of each class.
  double weighted_iou() const {
    double weighted = 0;
    for (size_t c = 0; c < both.size(); ++c) {
      if (labelled[c] > 0) weighted += labelled[c] * iou(c);
    }
    return iou_ratio(weighted, iou_sum(labelled));
  }
  /// Cohen's kappa: agreement beyond that of chance.
  double kappa() const {
    double chance = 0;
    for (size_t c = 0; c < both.size(); ++c) chance += predicted[c] * labelled[c];
    const double observed = accuracy();
    const double expected = iou_ratio(chance, iou_sum(predicted) * iou_sum(labelled));
    return iou_ratio(observed - expected, 1 - expected);
  }
};

/// 19.14, 0.3, 0.0, nan: as Python prints a number that was rounded to two decimals.
std::string iou_number(double v) {
  if (std::isnan(v)) return "nan";
  std::string s = printed("%.2f", v);
  if (s.back() == '0') s.pop_back();
  return s == "-0.0" ? "0.0" : s;
}

/// Code points: the columns that it takes on a terminal.
size_t iou_width(const std::string& s) {
  size_t n = 0;
  for (const char c : s) n += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return n;
}

/// A table framed by + - |, with centred cells; row 0 is the head.
std::string iou_table(const std::vector<std::vector<std::string>>& columns) {
  std::vector<size_t> widths;
  std::string rule = "+";
  for (const auto& column : columns) {
    size_t width = 0;
    for (const auto& cell : column) width = std::max(width, iou_width(cell));
    widths.push_back(width);
    rule += std::string(width + 2, '-') + "+";
  }
  std::string out = rule;
  for (size_t row = 0; row < columns.front().size(); ++row) {
    out += "\n|";
    for (size_t c = 0; c < columns.size(); ++c) {
      const std::string& cell = columns[c][row];
      const size_t length = iou_width(cell), spare = widths[c] - length;
      // An odd blank goes to the left of cells of even length, to the right of others.
      const size_t left = spare / 2 + (spare % 2 == 1 && length % 2 == 0 ? 1 : 0);
      out += " " + std::string(left, ' ') + cell + std::string(spare - left, ' ') + " |";
    }
    if (row == 0) out += "\n" + rule;
  }
  return out + "\n" + rule;
}

}  // namespace

struct IoUMetricParams {
  int64_t ignore_index = 255;
  OneOrMany<std::string> iou_metrics{{"mIoU"}, true};
  std::optional<double> nan_to_num;
  double beta = 1;
  std::string collect_device = "cpu";
  std::optional<std::string> output_dir;
  bool format_only = false;
  std::optional<std::string> prefix;
};

class IoUMetric final : public Metric {
 public:
  using Params = IoUMetricParams;
  static Schema<Params> schema() {
    Check<OneOrMany<std::string>> known;
    const std::vector<std::string> names{"mIoU",  "mDice", "mFscore", "mF1", "mF2",
                                         "FWIoU", "kappa", "PA",      "MPA"};
    known.test = [names](const OneOrMany<std::string>& v) {
      for (const auto& name : v.values) {
        if (std::find(names.begin(), names.end(), name) == names.end()) {
          return text("unknown metric '", name, "'.", did_you_mean(name, names),
                      " Known: ", join(names, ", "));
        }
      }
      return std::string();
    };
    known.describe = [names](TypeDoc& d) { d.choices = names; };
    return Schema<Params>("Overlap of prediction and truth, by class and on the mean of classes.")
        .optional("ignore_index", &Params::ignore_index, "label of pixels that do not count")
        .optional(
            "iou_metrics", &Params::iou_metrics,
            "mIoU (with mAcc), mDice (with mAcc), mFscore (with mPrecision, mRecall), mF1 and "
            "mF2 (F-scores that weigh recall once and twice), FWIoU (IoU weighted by the "
            "pixels of each class), kappa (Cohen's); PA and MPA with CPA are aAcc and mAcc "
            "with Acc under their other names; aAcc always comes",
            known)
        .optional(
            "nan_to_num", &Params::nan_to_num,
            "replaces undefined values, those of classes that do not occur; null: leave them out")
        .optional("beta", &Params::beta, "weight of recall in mFscore", above(0))
        .optional("collect_device", &Params::collect_device,
                  "accepted; counts are summed on their own device", one_of({"cpu", "gpu"}))
        .optional("output_dir", &Params::output_dir,
                  "folder for the predictions, PNG files of class ids (one more each where the "
                  "data set has reduce_zero_label)")
        .optional("format_only", &Params::format_only,
                  "only writes predictions and needs no labels")
        .optional("prefix", &Params::prefix, "goes before the names of results: prefix/mIoU")
        .accepted("collect_dir", "of collecting results through files in Python")
        .validate([](const Params& p, Problems& problems) {
          if (p.format_only && !p.output_dir) {
            problems.warn("format_only",
                          "nothing is computed, and without output_dir nothing is "
                          "written");
          }
        });
  }

  IoUMetric(const Params& p, const DatasetMeta& meta)
      : p_(p), classes_(meta.classes), n_(static_cast<int64_t>(meta.classes.size())) {
    reset();
  }

  std::optional<PredictionOutput> output() const override {
    if (!p_.output_dir && !p_.format_only) return std::nullopt;
    return PredictionOutput{.folder = p_.output_dir.value_or(""), .only = p_.format_only};
  }

  std::optional<int64_t> ignore_index() const override { return p_.ignore_index; }

  void process(const Prediction& prediction, const PackedSample& sample) override {
    if (p_.format_only) return;
    const std::string& name = sample.meta.img_path;
    const at::Tensor& ids = class_ids_of(prediction, sample);
    if (!sample.labels.defined()) {
      throw DataError(text(name,
                           ": has no labels to compare the prediction with. Give the data set "
                           "data_prefix.seg_map_path and its pipeline LoadAnnotations, or set "
                           "format_only of the metric"));
    }
    if (ids.sizes() != sample.labels.sizes()) {
      throw DataError(text(name, ": the prediction is ", ids.size(0), " x ", ids.size(1),
                           ", the labels are ", sample.labels.size(0), " x ", sample.labels.size(1),
                           " (height x width); labels must not be resized in a test pipeline"));
    }
    count(ids, sample.labels, name);
  }

  MetricResult compute(Communicator& communicator) override {
    at::Tensor sum = counts_;
    if (device_counts_.defined()) sum = sum + device_counts_.cpu();
    sum = sum.contiguous();
    communicator.all_reduce_sum_(sum);
    const std::string outside = first_outside_;
    reset();
    if (p_.format_only) return {};
    report_outside(sum[2][n_].item<int64_t>(), outside);
    const IouCounts counts(sum);
    return results(counts, columns(counts));
  }

 private:
  void reset() {
    counts_ = at::zeros({3, n_ + 1}, at::kLong);
    device_counts_.reset();
    first_outside_.clear();
  }

  void count(const at::Tensor& ids, const at::Tensor& labels, const std::string& name) {
    const at::Tensor counts = class_histogram(ids, labels, n_, p_.ignore_index);
    if (!counts.is_cpu()) {
      device_counts_ = device_counts_.defined() ? device_counts_ + counts : counts;
      return;
    }
    counts_.add_(counts);
    if (first_outside_.empty() && counts[2][n_].item<int64_t>() > 0) {
      const at::Tensor wide = labels.to(at::kLong);
      const at::Tensor outside = wide.lt(0).logical_or(wide.ge(n_));
      const at::Tensor found = wide.masked_select(outside.logical_and(wide.ne(p_.ignore_index)));
      first_outside_ = text("label ", found[0].item<int64_t>(), " in ", name);
    }
  }

  void report_outside(int64_t pixels, const std::string& first) const {
    if (pixels == 0) return;
    log::warn(pixels, " pixels have labels outside the ", n_, " classes that are not ignored",
              first.empty() ? "" : " (" + first + ")",
              "; as in MMSegmentation they count as predictions of their class only");
  }

  /// Values by class of the metrics that have them, each column once.
  std::vector<IouColumn> columns(const IouCounts& counts) const {
    std::vector<IouColumn> out;
    const auto named = [&](const std::string& name, const std::string& mean_name, auto value) {
      for (const auto& known : out) {
        if (known.name == name) return;
      }
      IouColumn made{name, mean_name, {}};
      for (size_t c = 0; c < classes_.size(); ++c) made.values.push_back(defined(value(c)));
      out.push_back(std::move(made));
    };
    const auto column = [&](const std::string& name, auto value) {
      named(name, "m" + name, value);
    };
    const auto recall = [&](size_t c) { return counts.recall(c); };
    for (const std::string& metric : p_.iou_metrics.values) {
      if (metric == "mIoU") {
        column("IoU", [&](size_t c) { return counts.iou(c); });
        column("Acc", recall);
      } else if (metric == "mDice") {
        column("Dice", [&](size_t c) { return counts.dice(c); });
        column("Acc", recall);
      } else if (metric == "mFscore") {
        column("Fscore", [&](size_t c) { return counts.f_score(c, p_.beta); });
        column("Precision", [&](size_t c) { return counts.precision(c); });
        column("Recall", recall);
      } else if (metric == "mF1") {
        column("F1", [&](size_t c) { return counts.f_score(c, 1); });
      } else if (metric == "mF2") {
        column("F2", [&](size_t c) { return counts.f_score(c, 2); });
      } else if (metric == "MPA") {
        named("CPA", "MPA", recall);
      }
    }
    return out;
  }

  MetricResult results(const IouCounts& counts, const std::vector<IouColumn>& columns) const {
    MetricResult result;
    const std::string before = p_.prefix ? *p_.prefix + "/" : "";
    const auto scalar = [&](const std::string& name, double v) {
      result.scalars.emplace_back(before + name, iou_percent(defined(v)));
    };
    scalar("aAcc", counts.accuracy());
    for (const auto& column : columns) scalar(column.mean_name, iou_mean(column.values));
    for (const std::string& metric : p_.iou_metrics.values) {
      if (metric == "FWIoU") scalar(metric, counts.weighted_iou());
      if (metric == "kappa") scalar(metric, counts.kappa());
      if (metric == "PA") scalar(metric, counts.accuracy());
    }

    std::vector<std::vector<std::string>> cells(1, classes_);
    cells[0].insert(cells[0].begin(), "Class");
    for (const auto& column : columns) {
      cells.push_back({column.name});
      for (size_t c = 0; c < classes_.size(); ++c) {
        const double v = iou_percent(column.values[c]);
        cells.back().push_back(iou_number(v));
        result.per_class.emplace_back(before + column.name + "." + classes_[c], v);
      }
    }
    if (!columns.empty()) result.table = iou_table(cells);
    return result;
  }

  /// The value itself, or `nan_to_num` if it is undefined.
  double defined(double v) const { return std::isnan(v) ? p_.nan_to_num.value_or(v) : v; }

  Params p_;
  std::vector<std::string> classes_;
  int64_t n_;
  at::Tensor counts_;          ///< int64 [3, classes + 1], of images that were counted on the CPU
  at::Tensor device_counts_;   ///< the same of images that were counted on a device
  std::string first_outside_;  ///< the first label outside the classes, and its image
};
SEG_REGISTER(Metric, IoUMetric);

}  // namespace seg
