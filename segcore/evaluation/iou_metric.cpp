// IoU and what else follows from three counts of pixels for each class.
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <map>

#include "registry/log.hpp"
#include "segcore/evaluation/metric.hpp"
#include "segcore/evaluation/pictures.hpp"
#include "segcore/ops/class_histogram/class_histogram.hpp"

namespace seg {
namespace {

/// One column of the table of classes.
using IouColumn = std::pair<std::string, std::vector<double>>;

constexpr double kIouNan = std::numeric_limits<double>::quiet_NaN();

double iou_ratio(double a, double b) { return b == 0 ? kIouNan : a / b; }

/// In percent with two decimals.
double iou_percent(double share) { return std::nearbyint(share * 10000) / 100; }

/// The mean of those that are there.
double iou_mean(const std::vector<double>& values) {
  double sum = 0, n = 0;
  for (const double v : values) {
    if (std::isnan(v)) continue;
    sum += v;
    n += 1;
  }
  return iou_ratio(sum, n);
}

/// 19.14, 0.3, 0.0, nan: as Python prints a number that was rounded to two decimals.
std::string iou_number(double v) {
  if (std::isnan(v)) return "nan";
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.2f", v);
  std::string s = buffer;
  if (s.back() == '0') s.pop_back();
  return s == "-0.0" ? "0.0" : s;
}

/// Code points, which are what takes a place on a terminal.
size_t iou_width(const std::string& s) {
  size_t n = 0;
  for (const char c : s) n += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return n;
}

/// A frame of + - | around centred cells, row 0 being the head.
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
      // The odd blank stands left of texts of even length, right of the others.
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
    const std::vector<std::string> names{"mIoU", "mDice", "mFscore", "FWIoU", "kappa"};
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
        .optional("iou_metrics", &Params::iou_metrics,
                  "mIoU (with mAcc), mDice (with mAcc), mFscore (with mPrecision, mRecall), FWIoU "
                  "(IoU weighted by the pixels of each class), kappa (Cohen's); aAcc always comes",
                  known)
        .optional("nan_to_num", &Params::nan_to_num,
                  "stands for values that are not defined, of classes that do not occur; without "
                  "it they do not count")
        .optional("beta", &Params::beta, "weight of recall in mFscore", above(0))
        .optional("collect_device", &Params::collect_device,
                  "accepted; counts are summed where they are", one_of({"cpu", "gpu"}))
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
    if (p.output_dir) write_predictions(*p.output_dir);
    reset();
  }

  void write_predictions(const std::string& folder) override { folder_ = folder; }

  void process(const at::Tensor& prediction, const PackedSample& sample) override {
    const std::string& name = sample.meta.img_path;
    if (!folder_.empty()) write(prediction, sample);
    if (p_.format_only) return;
    if (!sample.labels.defined()) {
      throw DataError(text(name,
                           ": has no labels to compare the prediction with (LoadAnnotations "
                           "is missing in the pipeline, or set format_only)"));
    }
    if (prediction.sizes() != sample.labels.sizes()) {
      throw DataError(text(name, ": the prediction is ", prediction.size(0), " x ",
                           prediction.size(1), ", the labels are ", sample.labels.size(0), " x ",
                           sample.labels.size(1),
                           " (height x width); labels must not be resized in a test pipeline"));
    }
    count(prediction, sample.labels, name);
  }

  MetricResult compute(Communicator& communicator) override {
    at::Tensor sum = counts_;
    if (device_counts_.defined()) sum = sum + device_counts_.cpu();
    sum = sum.contiguous();
    communicator.all_reduce_sum_(sum);
    const std::string strange = strange_;
    reset();
    if (p_.format_only) {
      if (!folder_.empty()) log::info("predictions are in ", folder_);
      return {};
    }
    return results(sum, strange);
  }

 private:
  void reset() {
    counts_ = at::zeros({3, n_ + 1}, at::kLong);
    device_counts_.reset();
    strange_.clear();
  }

  void count(const at::Tensor& prediction, const at::Tensor& labels, const std::string& name) {
    const at::Tensor counts = class_histogram(prediction, labels, n_, p_.ignore_index);
    if (!counts.is_cpu()) {
      device_counts_ = device_counts_.defined() ? device_counts_ + counts : counts;
      return;
    }
    counts_.add_(counts);
    if (strange_.empty() && counts[2][n_].item<int64_t>() > 0) {
      const at::Tensor outside = labels.lt(0).logical_or(labels.ge(n_));
      const at::Tensor found =
          labels.masked_select(outside.logical_and(labels.ne(p_.ignore_index)));
      strange_ = text("label ", found[0].item<int64_t>(), " in ", name);
    }
  }

  void write(const at::Tensor& prediction, const PackedSample& sample) const {
    namespace fs = std::filesystem;
    const std::string stem = fs::path(sample.meta.img_path).stem().string();
    const std::string path = (fs::path(folder_) / (stem + ".png")).string();
    write_class_ids(path, prediction, sample.meta.reduce_zero_label);
  }

  MetricResult results(const at::Tensor& sum, const std::string& strange) const {
    const auto row = [&](int64_t k) {
      const int64_t* from = sum.const_data_ptr<int64_t>() + k * (n_ + 1);
      return std::vector<double>(from, from + n_);
    };
    const std::vector<double> both = row(0), predicted = row(1), labelled = row(2);
    const int64_t outside = sum.const_data_ptr<int64_t>()[2 * (n_ + 1) + n_];
    if (outside > 0) {
      log::warn(outside, " pixels have labels outside the ", n_, " classes that are not ignored",
                strange.empty() ? "" : " (" + strange + ")",
                "; as in MMSegmentation they count as predictions of their class only");
    }
    double all_both = 0, all_labelled = 0, all_predicted = 0, chance = 0;
    for (int64_t c = 0; c < n_; ++c) {
      all_both += both[c];
      all_labelled += labelled[c];
      all_predicted += predicted[c];
      chance += predicted[c] * labelled[c];
    }

    std::vector<IouColumn> columns;
    const auto column = [&](const std::string& name, auto value) {
      for (const auto& known : columns) {
        if (known.first == name) return;
      }
      IouColumn made{name, {}};
      for (int64_t c = 0; c < n_; ++c) {
        const double v = value(c);
        made.second.push_back(std::isnan(v) ? p_.nan_to_num.value_or(v) : v);
      }
      columns.push_back(std::move(made));
    };
    const auto iou = [&](int64_t c) {
      return iou_ratio(both[c], predicted[c] + labelled[c] - both[c]);
    };
    const auto recall = [&](int64_t c) { return iou_ratio(both[c], labelled[c]); };
    const auto precision = [&](int64_t c) { return iou_ratio(both[c], predicted[c]); };
    std::vector<std::pair<std::string, double>> single;
    for (const std::string& metric : p_.iou_metrics.values) {
      if (metric == "mIoU") {
        column("IoU", iou);
        column("Acc", recall);
      } else if (metric == "mDice") {
        column("Dice",
               [&](int64_t c) { return iou_ratio(2 * both[c], predicted[c] + labelled[c]); });
        column("Acc", recall);
      } else if (metric == "mFscore") {
        column("Fscore", [&](int64_t c) {
          const double b = p_.beta * p_.beta, p = precision(c), r = recall(c);
          return iou_ratio((1 + b) * (p * r), b * p + r);
        });
        column("Precision", precision);
        column("Recall", recall);
      } else if (metric == "FWIoU") {
        double weighted = 0;
        for (int64_t c = 0; c < n_; ++c) {
          if (labelled[c] > 0) weighted += labelled[c] * iou(c);
        }
        single.emplace_back("FWIoU", iou_ratio(weighted, all_labelled));
      } else {
        const double observed = iou_ratio(all_both, all_labelled);
        const double expected = iou_ratio(chance, all_predicted * all_labelled);
        single.emplace_back("kappa", iou_ratio(observed - expected, 1 - expected));
      }
    }

    MetricResult result;
    const std::string before = p_.prefix ? *p_.prefix + "/" : "";
    const auto scalar = [&](const std::string& name, double v) {
      if (std::isnan(v)) v = p_.nan_to_num.value_or(v);
      result.scalars.emplace_back(before + name, iou_percent(v));
    };
    scalar("aAcc", iou_ratio(all_both, all_labelled));
    for (const auto& [name, values] : columns) scalar("m" + name, iou_mean(values));
    for (const auto& [name, v] : single) scalar(name, v);

    std::vector<std::vector<std::string>> cells(1, classes_);
    cells[0].insert(cells[0].begin(), "Class");
    for (const auto& [name, values] : columns) {
      cells.push_back({name});
      for (int64_t c = 0; c < n_; ++c) {
        const double v = iou_percent(values[static_cast<size_t>(c)]);
        cells.back().push_back(iou_number(v));
        result.per_class.emplace_back(before + name + "." + classes_[static_cast<size_t>(c)], v);
      }
    }
    if (!columns.empty()) result.table = iou_table(cells);
    return result;
  }

  Params p_;
  std::vector<std::string> classes_;
  int64_t n_;
  std::string folder_;
  at::Tensor counts_;         ///< int64 [3, classes + 1]: matches, predictions, labels; on the CPU
  at::Tensor device_counts_;  ///< the same of images that were counted on a device
  std::string strange_;       ///< the first label outside the classes, and its image
};
SEG_REGISTER(Metric, IoUMetric);

}  // namespace seg
