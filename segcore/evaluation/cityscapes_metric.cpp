// The scores of the Cityscapes benchmark over categories.
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <cmath>
#include <limits>
#include <map>

#include "registry/error.hpp"
#include "segcore/evaluation/metric.hpp"
#include "segcore/image/image_io.hpp"

namespace seg {
namespace {

/// What cityscapesScripts states of the classes that count.
struct CityscapesLabel {
  std::string_view name;
  uint8_t id;  ///< in *_labelIds.png
  std::string_view category;
  double instance_size;  ///< mean pixels of an instance; 0 for classes without instances
};

constexpr CityscapesLabel kCityscapesLabels[] = {
    {"road", 7, "flat", 0},
    {"sidewalk", 8, "flat", 0},
    {"building", 11, "construction", 0},
    {"wall", 12, "construction", 0},
    {"fence", 13, "construction", 0},
    {"pole", 17, "object", 0},
    {"traffic light", 19, "object", 0},
    {"traffic sign", 20, "object", 0},
    {"vegetation", 21, "nature", 0},
    {"terrain", 22, "nature", 0},
    {"sky", 23, "sky", 0},
    {"person", 24, "human", 3462.4756337644},
    {"rider", 25, "human", 3930.4788056518},
    {"car", 26, "vehicle", 12794.0202738185},
    {"truck", 27, "vehicle", 27855.1264367816},
    {"bus", 28, "vehicle", 35732.1511111111},
    {"train", 31, "vehicle", 67583.7075812274},
    {"motorcycle", 32, "vehicle", 6298.7200839748},
    {"bicycle", 33, "vehicle", 4672.3249222261},
};

/// Pixels of an instance have this times the label's id, plus a number.
constexpr int32_t kCityscapesInstance = 1000;
constexpr std::string_view kCityscapesTrainIds = "labelTrainIds";

const CityscapesLabel* cityscapes_label(const std::string& name) {
  for (const CityscapesLabel& label : kCityscapesLabels) {
    if (label.name == name) return &label;
  }
  return nullptr;
}

/// The mean of the scores that are defined.
double cityscapes_mean(const std::vector<double>& scores) {
  double sum = 0, count = 0;
  for (const double score : scores) {
    if (std::isnan(score)) continue;
    sum += score;
    ++count;
  }
  return count > 0 ? sum / count : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

struct CityscapesMetricParams {
  std::string output_dir;
  int64_t ignore_index = 255;
  bool format_only = false;
  bool keep_results = false;
  std::string collect_device = "cpu";
  std::optional<std::string> prefix;
};

class CityscapesMetric final : public Metric {
 public:
  using Params = CityscapesMetricParams;
  static Schema<Params> schema() {
    return Schema<Params>(
               "Scores of Cityscapes over categories: IoU, and IoU with instances of equal weight, "
               "which *_instanceIds.png beside the annotations give.")
        .source("cityscapesScripts, evalPixelLevelSemanticLabeling; MMSegmentation 1.2")
        .required("output_dir", &Params::output_dir,
                  "folder for the predictions, PNG files of label ids for the benchmark's server")
        .optional("ignore_index", &Params::ignore_index, "label of pixels that do not count")
        .optional("format_only", &Params::format_only,
                  "only writes predictions and needs no labels")
        .optional("keep_results", &Params::keep_results,
                  "write the predictions; without it they are only measured")
        .optional("collect_device", &Params::collect_device,
                  "accepted; counts are summed on their own device", one_of({"cpu", "gpu"}))
        .optional("prefix", &Params::prefix, "goes before the names of results")
        .validate([](const Params& p, Problems& problems) {
          if (p.format_only && !p.keep_results) {
            problems.error("format_only", "needs keep_results: true, or nothing would be done");
          }
        });
  }

  CityscapesMetric(const Params& p, const DatasetMeta& meta)
      : p_(p), n_(static_cast<int64_t>(meta.classes.size())) {
    for (const auto& name : meta.classes) {
      const CityscapesLabel* label = cityscapes_label(name);
      if (!label) {
        throw OptionError("type", text("CityscapesMetric knows the classes of Cityscapes alone, "
                                       "and the data set has '",
                                       name, "': use IoUMetric"));
      }
      labels_.push_back(*label);
      categories_.try_emplace(label->category, static_cast<int64_t>(categories_.size()));
    }
    for (const auto& label : labels_) category_of_.push_back(categories_.at(label.category));
    reset();
  }

  std::optional<PredictionOutput> output() const override {
    if (!p_.keep_results) return std::nullopt;
    PredictionOutput out{.folder = p_.output_dir, .only = p_.format_only};
    for (const auto& label : labels_) out.values.push_back(label.id);
    return out;
  }
  std::optional<int64_t> ignore_index() const override { return p_.ignore_index; }

  void process(const Prediction& prediction, const PackedSample& sample) override {
    if (p_.format_only) return;
    const std::string& name = sample.meta.img_path;
    const at::Tensor& predicted = class_ids_of(prediction, sample);
    if (!sample.labels.defined() || sample.labels.sizes() != predicted.sizes()) {
      throw DataError(text(name,
                           ": CityscapesMetric needs labels of the size of the prediction. Give "
                           "the data set annotations, and resize none in the test pipeline"));
    }
    const at::Tensor ids = predicted.to(at::kCPU, at::kLong).contiguous();
    const at::Tensor labels = sample.labels.to(at::kCPU, at::kLong);
    const at::Tensor counted = labels.ne(p_.ignore_index) & labels.ge(0) & labels.lt(n_);
    const at::Tensor pairs = (labels * n_ + ids).masked_select(counted);
    confusion_.add_(at::bincount(pairs, {}, n_ * n_).view({n_, n_}));
    add_instances(ids, sample.meta);
  }

  MetricResult compute(Communicator& communicator) override {
    at::Tensor confusion = confusion_, instances = instances_;
    communicator.all_reduce_sum_(confusion);
    communicator.all_reduce_sum_(instances);
    reset();
    if (p_.format_only) return {};
    MetricResult out;
    std::vector<double> scores, instance_scores;
    for (const auto& [category, k] : categories_) {
      double both = 0, missed = 0, wrong = 0;
      for (int64_t label = 0; label < n_; ++label) {
        for (int64_t id = 0; id < n_; ++id) {
          const auto pixels = static_cast<double>(confusion[label][id].item<int64_t>());
          const bool is = in_category(label, k), said = in_category(id, k);
          if (is) (said ? both : missed) += pixels;
          if (!is && said) wrong += pixels;
        }
      }
      scores.push_back(both / (both + missed + wrong));
      out.per_class.emplace_back(named("IoU." + std::string(category)), scores.back());
      if (category != "human" && category != "vehicle") continue;
      const double hit = instances[k][0].item<double>(), lost = instances[k][1].item<double>();
      instance_scores.push_back(hit / (hit + lost + wrong));
      out.per_class.emplace_back(named("nIoU." + std::string(category)), instance_scores.back());
    }
    out.scalars = {
        {named("averageScoreCategories"), cityscapes_mean(scores)},
        {named("averageScoreInstCategories"), cityscapes_mean(instance_scores)},
    };
    return out;
  }

 private:
  void reset() {
    confusion_ = at::zeros({n_, n_}, at::kLong);
    instances_ = at::zeros({static_cast<int64_t>(categories_.size()), 2}, at::kDouble);
  }
  bool in_category(int64_t label, int64_t category) const {
    return category_of_.at(static_cast<size_t>(label)) == category;
  }
  std::string named(const std::string& name) const {
    return p_.prefix ? *p_.prefix + "/" + name : name;
  }

  /// Counts the pixels of each instance that are given to its category, as if all instances of a
  /// class were of the mean size.
  void add_instances(const at::Tensor& ids, const SampleMeta& meta) {
    std::string path = meta.seg_map_path;
    const size_t at = path.rfind(kCityscapesTrainIds);
    if (at == std::string::npos) {
      throw DataError(text(path, ": CityscapesMetric expects annotations *_", kCityscapesTrainIds,
                           ".png, beside which *_instanceIds.png are"));
    }
    path.replace(at, kCityscapesTrainIds.size(), "instanceIds");
    const cv::Mat instances = read_labels(path);
    if (instances.rows != ids.size(0) || instances.cols != ids.size(1)) {
      throw DataError(text(path, ": the instances are ", instances.cols, " x ", instances.rows,
                           " pixels (width x height), the prediction is ", ids.size(1), " x ",
                           ids.size(0)));
    }
    struct Pixels {
      double all = 0, hit = 0;
    };
    std::map<int32_t, Pixels> found;
    const int64_t* predicted = ids.const_data_ptr<int64_t>();
    for (int y = 0; y < instances.rows; ++y) {
      for (int x = 0; x < instances.cols; ++x, ++predicted) {
        const int32_t instance =
            instances.depth() == CV_8U ? instances.at<uint8_t>(y, x) : instances.at<int32_t>(y, x);
        const int64_t label =
            instance > kCityscapesInstance ? class_of_id(instance / kCityscapesInstance) : -1;
        if (label < 0) continue;
        Pixels& pixels = found[instance];
        ++pixels.all;
        if (in_category(*predicted, category_of_[static_cast<size_t>(label)])) ++pixels.hit;
      }
    }
    for (const auto& [instance, pixels] : found) {
      const auto label = static_cast<size_t>(class_of_id(instance / kCityscapesInstance));
      const double weight = labels_[label].instance_size / pixels.all;
      instances_[category_of_[label]][0] += pixels.hit * weight;
      instances_[category_of_[label]][1] += (pixels.all - pixels.hit) * weight;
    }
  }
  /// -1 where none of the classes has the id, or it has no instances.
  int64_t class_of_id(int32_t id) const {
    for (size_t i = 0; i < labels_.size(); ++i) {
      if (labels_[i].id == id && labels_[i].instance_size > 0) return static_cast<int64_t>(i);
    }
    return -1;
  }

  Params p_;
  int64_t n_;
  std::vector<CityscapesLabel> labels_;             ///< of the classes
  std::map<std::string_view, int64_t> categories_;  ///< by name
  std::vector<int64_t> category_of_;                ///< of the classes
  at::Tensor confusion_;                            ///< int64 [label, prediction]
  at::Tensor instances_;  ///< double [category, 2]: weighted pixels that were found, and missed
};
SEG_REGISTER(Metric, CityscapesMetric);

}  // namespace seg
