// Data sets, loaders and metrics of configurations of MMSegmentation 0.x.
#include <algorithm>
#include <memory>
#include <string_view>

#include "registry/text.hpp"
#include "runners/start/old_config_parts.hpp"

namespace seg {
namespace {

struct OldPhase {
  const char* name;       ///< of the data set in `data`
  const char* loader;     ///< its options in `data`
  const char* now;        ///< the loader of today
  const char* evaluator;  ///< nullptr for training
};
constexpr OldPhase kOldTrain{"train", "train_dataloader", "train_dataloader", nullptr};
constexpr OldPhase kOldVal{"val", "val_dataloader", "val_dataloader", "val_evaluator"};
constexpr OldPhase kOldTest{"test", "test_dataloader", "test_dataloader", "test_evaluator"};

/// The first LoadAnnotations in the pipelines below a value.
const Config* find_annotations(const Config& part) {
  if (old_type(part) == "LoadAnnotations") return &part;
  for (const Config& element : part.list) {
    if (const Config* found = find_annotations(element)) return found;
  }
  for (const Config::Item& item : part.map) {
    if (const Config* found = find_annotations(item.value)) return found;
  }
  return nullptr;
}

class DataTranslation {
 public:
  DataTranslation(const Config& old, Config& tree, OldNotes& notes)
      : old_(old), tree_(tree), notes_(notes) {}

  void translate() {
    const Config::Item* data = old_.find("data");
    const Config::Item* evaluation = old_.find("evaluation");
    if (!data || !data->value.is_map()) return;
    data_ = &data->value;
    if (evaluation && evaluation->value.is_map()) evaluation_ = &evaluation->value;
    if (const Config::Item* train = data_->find("train")) {
      annotations_ = find_annotations(train->value);
    }
    add_loader(kOldTrain);
    add_loader(kOldVal);
    add_loader(kOldTest);
    if (!tta_.is_null()) {
      tree_.set("tta_model", typed_map("SegTTAModel", tta_.origin));
      tree_.set("tta_pipeline", std::move(tta_));
    }
    add_evaluator(kOldVal);
    add_evaluator(kOldTest);
    add_old_preprocessor(train_steps_, test_steps_, tree_, notes_);
  }

 private:
  // --- loaders ---

  void add_loader(const OldPhase& phase) {
    const Config::Item* dataset = data_->find(phase.name);
    if (!dataset || dataset->value.is_null()) return;
    const bool training = !phase.evaluator;
    const Origin& origin = data_->origin;
    OldOptions all(data_, "data");
    all.ignore({"train", "val", "test"});
    const Config* shared_batch = all.take("samples_per_gpu");
    const Config* shared_workers = all.take("workers_per_gpu");
    const Config* own = nullptr;
    for (const OldPhase* each : {&kOldTrain, &kOldVal, &kOldTest}) {
      const Config* found = all.take(each->loader);
      if (each->loader == std::string_view(phase.loader)) own = found;
    }
    OldOptions options(own, text("data.", phase.loader));
    const Config* batch = options.take("samples_per_gpu");
    const Config* workers = options.take("workers_per_gpu");
    if (!batch && training) batch = shared_batch;
    if (!workers) workers = shared_workers;
    Config loader = placed_map(origin);
    loader.set("batch_size", batch ? *batch : placed(int64_t{1}, origin));
    loader.set("num_workers", workers ? *workers : placed(int64_t{0}, origin));
    const auto either = [&](const char* key) {
      const Config* shared = all.take(key);
      const Config* mine = options.take(key);
      return mine ? mine : shared;
    };
    const Config* persistent = either("persistent_workers");
    loader.set("persistent_workers", persistent ? *persistent : placed(true, origin));
    const bool by_epoch = old_length(old_).by_epoch;
    Config sampler =
        typed_map(training && !by_epoch ? "InfiniteSampler" : "DefaultSampler", origin);
    const Config* shuffle = training ? either("shuffle") : options.take("shuffle");
    sampler.set("shuffle", shuffle ? *shuffle : placed(training, origin));
    loader.set("sampler", std::move(sampler));
    const Config* drop_last = either("drop_last");
    if (training && by_epoch)
      loader.set("drop_last", drop_last ? *drop_last : placed(true, origin));
    if (const Config* pin = either("pin_memory")) loader.set("pin_memory", *pin);
    // Loaders of another kind and the like.
    all.ignore({"shuffle", "dataloader_type", "prefetch_num", "seed", "num_gpus", "dist"});
    options.ignore({"dataloader_type", "prefetch_num", "seed", "num_gpus", "dist"});
    if (training) all.leave_out_rest(notes_);
    options.leave_out_rest(notes_);
    const std::string now = text(phase.now, ".dataset");
    loader.set("dataset", translate_dataset(dataset->value, text("data.", phase.name), now, phase));
    loader.find("dataset")->key_origin = dataset->key_origin;
    tree_.set(phase.now, std::move(loader));
  }

  // --- data sets ---

  Config translate_dataset(const Config& old, const std::string& path, const std::string& now,
                           const OldPhase& phase) {
    if (old.is_list()) return joined(old, path, now, phase);
    const std::string type = old_type(old);
    OldOptions options(&old, path);
    if (type == "RepeatDataset" || type == "MultiImageMixDataset") {
      Config out = placed_map(old.origin);
      if (const Config* kind = options.take("type")) out.set("type", *kind);
      if (const Config* times = options.take("times")) out.set("times", *times);
      if (const Config* inner = options.take("dataset")) {
        out.set("dataset",
                translate_dataset(*inner, text(path, ".dataset"), text(now, ".dataset"), phase));
      }
      if (const Config* steps = options.take("pipeline")) {
        out.set("pipeline",
                translate_steps(*steps, text(path, ".pipeline"), text(now, ".pipeline"), phase));
      }
      options.move_rest(out);
      return out;
    }
    if (type == "ConcatDataset") {
      Config out = placed_map(old.origin);
      const Config* parts = options.take("datasets");
      if (parts) out = joined(*parts, text(path, ".datasets"), now, phase);
      note_separate_eval(options, now, phase);
      options.ignore({"type"});
      options.move_rest(out);
      return out;
    }
    for (const char* key : {"img_dir", "ann_dir", "split"}) {
      const Config::Item* item = old.find(key);
      if (item && item->value.is_list()) return expanded(old, options, path, now, phase);
    }
    return plain_dataset(old, path, now, phase);
  }

  Config joined(const Config& parts, const std::string& path, const std::string& now,
                const OldPhase& phase) {
    Config out = typed_map("ConcatDataset", parts.origin);
    Config datasets = placed_list(parts.origin);
    for (size_t i = 0; i < parts.list.size(); ++i) {
      datasets.list.push_back(
          translate_dataset(parts.list[i], text(path, ".", i), text(now, ".datasets.", i), phase));
    }
    out.set("datasets", std::move(datasets));
    note_separate(parts.origin, path, now, phase);
    return out;
  }

  /// Lists of folders or of lists of samples stand for one data set each.
  Config expanded(const Config& old, OldOptions& options, const std::string& path,
                  const std::string& now, const OldPhase& phase) {
    size_t count = 0;
    for (const char* key : {"img_dir", "ann_dir", "split"}) {
      const Config::Item* item = old.find(key);
      if (!item || !item->value.is_list()) continue;
      const size_t length = item->value.list.size();
      if (count > 1 && length > 1 && length != count) {
        notes_.error(
            item->value.origin, text(path, ".", key),
            text("has ", length, " elements, but another list of this data set has ", count));
      }
      count = std::max(count, length);
    }
    Config out = typed_map("ConcatDataset", old.origin);
    Config datasets = placed_list(old.origin);
    for (size_t i = 0; i < count; ++i) {
      Config one = old;
      std::erase_if(one.map, [](const auto& item) { return item.key == "separate_eval"; });
      for (const char* key : {"img_dir", "ann_dir", "split"}) {
        Config::Item* item = one.find(key);
        if (!item || !item->value.is_list() || item->value.list.empty()) continue;
        const auto& list = item->value.list;
        item->value = Config(list[std::min(i, list.size() - 1)]);
      }
      parts_.push_back(std::make_unique<Config>(std::move(one)));
      datasets.list.push_back(
          plain_dataset(*parts_.back(), path, text(now, ".datasets.", i), phase));
    }
    out.set("datasets", std::move(datasets));
    note_separate_eval(options, now, phase);
    return out;
  }

  void note_separate_eval(OldOptions& options, const std::string& now, const OldPhase& phase) {
    const Config* separate = options.take("separate_eval");
    if (!separate || old_true(separate)) {
      note_separate(options.origin(), options.path(), now, phase);
    }
  }

  void note_separate(const Origin& where, const std::string& path, const std::string& now,
                     const OldPhase& phase) {
    if (!phase.evaluator) return;
    notes_.add(where, path, text(now, ".type"),
               "0.x measures each of these data sets on its own; here metrics are those of all "
               "their images together");
  }

  Config plain_dataset(const Config& old, const std::string& path, const std::string& now,
                       const OldPhase& phase) {
    OldOptions options(&old, path);
    Config out = placed_map(old.origin);
    const Config* type = options.take("type");
    const bool custom = old_type(old) == "CustomDataset";
    if (type) out.set("type", custom ? placed("BaseSegDataset", type->origin) : *type);
    if (const Config* root = options.take("data_root")) out.set("data_root", *root);
    Config prefix = placed_map(old.origin);
    if (const Config* images = options.take("img_dir")) prefix.set("img_path", *images);
    if (const Config* masks = options.take("ann_dir")) prefix.set("seg_map_path", *masks);
    if (!prefix.map.empty()) out.set("data_prefix", std::move(prefix));
    if (const Config* split = options.take("split")) out.set("ann_file", *split);
    Config meta = placed_map(old.origin);
    for (const char* key : {"classes", "palette"}) {
      if (const Config* value = options.take(key)) meta.set(key, *value);
    }
    if (!meta.map.empty()) out.set("metainfo", std::move(meta));
    set_reduction(options, custom, out);
    options.ignore({"test_mode"});
    const Config* client = options.take("file_client_args");
    const Config::Item* backend = client ? client->find("backend") : nullptr;
    if (client && !(backend && backend->value.scalar == "disk")) {
      notes_.left_out(client->origin, options.path("file_client_args"),
                      "files are read from the file system");
    }
    const Config* steps = options.take("pipeline");
    label_options_ = options.take("gt_seg_map_loader_cfg");
    options.move_rest(out);
    if (steps) {
      out.set("pipeline",
              translate_steps(*steps, text(path, ".pipeline"), text(now, ".pipeline"), phase));
    }
    return out;
  }

  /// In 0.x a pipeline alone decided on it; here the data set and its pipeline must agree.
  void set_reduction(OldOptions& options, bool custom, Config& out) {
    if (const Config* reduce = options.take("reduce_zero_label")) {
      out.set("reduce_zero_label", *reduce);
      return;
    }
    const Config::Item* reduce = annotations_ ? annotations_->find("reduce_zero_label") : nullptr;
    if (custom && reduce && !reduce->value.is_null()) {
      out.set("reduce_zero_label", reduce->value);
    }
  }

  // --- pipelines ---

  Config translate_steps(const Config& steps, const std::string& path, const std::string& now,
                         const OldPhase& phase) {
    const bool training = !phase.evaluator;
    Config labels = annotations_ ? *annotations_ : typed_map("LoadAnnotations", steps.origin);
    if (label_options_) {
      OldOptions options(label_options_, path);
      options.ignore({"type", "file_client_args"});
      options.move_rest(labels);
    }
    std::erase_if(labels.map, [](const auto& item) { return item.key == "file_client_args"; });
    OldPipeline found =
        translate_old_pipeline(steps, path, now, training ? nullptr : &labels, notes_);
    OldBatchSteps& batch = training ? train_steps_ : test_steps_;
    if (found.batch_steps.normalize || found.batch_steps.pad) batch = found.batch_steps;
    if (!found.tta_steps.is_null()) tta_ = std::move(found.tta_steps);
    return std::move(found.steps);
  }

  // --- metrics ---

  void add_evaluator(const OldPhase& phase) {
    if (!tree_.find(phase.now)) return;
    OldOptions options(evaluation_, "evaluation");
    const Config* metric = options.take("metric");
    const Origin origin = metric ? metric->origin : data_->origin;
    const Config* ignored = tree_.at_path(text(phase.now, ".dataset.ignore_index"));
    Config evaluators = placed_list(origin);
    Config overlaps = placed_list(origin);
    for (const Config* one : one_or_more(metric)) {
      if (one->scalar != "cityscapes") {
        overlaps.list.push_back(*one);
        continue;
      }
      Config benchmark = typed_map("CityscapesMetric", one->origin);
      // Where 0.x writes the predictions.
      benchmark.set("output_dir", placed(".format_cityscapes", one->origin));
      if (ignored) benchmark.set("ignore_index", *ignored);
      evaluators.list.push_back(std::move(benchmark));
    }
    if (!metric) overlaps.list.push_back(placed("mIoU", origin));
    if (!overlaps.list.empty()) {
      Config out = typed_map("IoUMetric", origin);
      out.set("iou_metrics", std::move(overlaps));
      if (ignored) out.set("ignore_index", *ignored);
      for (const char* key : {"nan_to_num", "beta"}) {
        if (const Config* value = options.take(key)) out.set(key, *value);
      }
      evaluators.list.insert(evaluators.list.begin(), std::move(out));
    }
    const bool one = evaluators.list.size() == 1;
    tree_.set(phase.evaluator, one ? Config(evaluators.list[0]) : std::move(evaluators));
  }

  const Config& old_;
  Config& tree_;
  OldNotes& notes_;
  const Config* data_ = nullptr;
  const Config* evaluation_ = nullptr;
  const Config* annotations_ = nullptr;    ///< of training
  const Config* label_options_ = nullptr;  ///< of the data set that is being translated
  OldBatchSteps train_steps_, test_steps_;
  Config tta_;
  /// Parts of expanded data sets, which steps of batches point into.
  std::vector<std::unique_ptr<Config>> parts_;
};

}  // namespace

void translate_old_data(const Config& old, Config& tree, OldNotes& notes) {
  DataTranslation(old, tree, notes).translate();
}

}  // namespace seg
