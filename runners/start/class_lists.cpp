#include "runners/start/class_lists.hpp"

#include <algorithm>

#include "registry/log.hpp"
#include "registry/yaml.hpp"
#include "segcore/data/dataset_spec.hpp"
#include "segcore/data/datasets/metainfo.hpp"

namespace seg {
namespace {

using ClassNames = std::vector<std::string>;

std::string class_list_text(const ClassNames& names) {
  Config list;
  list.kind = Config::Kind::kList;
  for (const auto& name : names) list.list.push_back(Config::of(name));
  return dump_flow(list);
}

bool is_reordered(ClassNames a, ClassNames b) {
  std::sort(a.begin(), a.end());
  std::sort(b.begin(), b.end());
  return a == b;
}

/// What differs, and the line that makes the two agree.
/// \param owner  of the other list: "train_dataloader's data set".
std::string class_list_difference(const ClassNames& own, const ClassNames& others,
                                  const std::string& owner) {
  const bool reordered = is_reordered(own, others);
  return text(reordered ? "has the classes of " : "has other classes than ", owner,
              reordered ? " in another order" : "", ": ", class_list_text(own), " instead of ",
              class_list_text(others),
              reordered ? ". Write" : ". If the labels mean the same, write",
              " metainfo: {classes: ", class_list_text(others), "}");
}

/// Where the names of a data set are given; the data set itself where it comes with them.
OptionPlace place_of_classes(const Spec<Dataset>& dataset) {
  return innermost_dataset(dataset).place_of("metainfo.classes");
}

/// The difference between a data set and a checkpoint of as many classes; "" for none.
std::string saved_class_difference(const ClassNames& own, const ClassNames& saved,
                                   const std::string& path) {
  if (saved.empty() || own.size() != saved.size() || own == saved) return {};
  return class_list_difference(own, saved, "the checkpoint " + path);
}

/// Whether the training data are of more classes than the model, but those of tests are of as many:
/// settings that only serve to test weights from elsewhere.
bool only_tests(const RunConfig& config) {
  const SegmentorFacts model = config.model.facts();
  const auto& training = config.train_dataloader;
  const auto& test = config.test_dataloader ? config.test_dataloader : config.val_dataloader;
  if (model.heads.empty() || !training || !training->dataset || !test || !test->dataset) {
    return false;
  }
  const auto count = static_cast<size_t>(model.heads.back().count);
  return training->dataset.facts().classes.size() > count &&
         test->dataset.facts().classes.size() == count;
}

/// Labels above the last output of a head would stop training in the middle.
void check_class_counts(const RunConfig& config, bool trains, Diagnostics& problems) {
  const SegmentorFacts model = config.model.facts();
  const bool tolerant = !trains && only_tests(config);
  std::vector<std::vector<std::string>> reported;
  const auto check = [&](const std::optional<DataLoaderParams>& loader, const char* key) {
    if (!loader || !loader->dataset) return;
    const std::vector<std::string> names = loader->dataset.facts().classes;
    const auto classes = static_cast<int64_t>(names.size());
    if (classes == 0 || std::find(reported.begin(), reported.end(), names) != reported.end()) {
      return;
    }
    for (const HeadClasses& head : model.heads) {
      const auto [where, path] = config.model.place_of(head.option);
      if (head.count < classes) {
        const bool one_map = head.count == 1 && classes == 2 && path.ends_with("num_classes");
        const std::string found = text(
            head.count, " classes, but ", key, "'s data set has ", classes, " (", join(names, ", "),
            ")", one_map ? ". For one map of logits write num_classes: 2 and out_channels: 1" : "");
        if (tolerant) {
          problems.warn(where, path, found + ": it can be tested, but training would fail");
        } else {
          problems.error(where, path, found);
        }
      } else if (head.count > classes && &head == &model.heads.back()) {
        problems.warn(where, path,
                      text(head.count, " classes, but ", key, "'s data set has only ", classes));
      } else {
        continue;
      }
      reported.push_back(names);
    }
  };
  check(config.train_dataloader, "train_dataloader");
  check(config.val_dataloader, "val_dataloader");
  check(config.test_dataloader, "test_dataloader");
}

/// Data sets of validations and tests whose classes are not those of training, in its order. Those
/// without names are left alone.
void check_class_lists(const RunConfig& config, Diagnostics& problems) {
  if (!config.train_dataloader || !config.train_dataloader->dataset || only_tests(config)) return;
  const ClassNames trained = config.train_dataloader->dataset.facts().classes;
  if (trained.empty()) return;
  for (const auto* loader : {&config.val_dataloader, &config.test_dataloader}) {
    if (!*loader || !(*loader)->dataset) continue;
    const ClassNames own = (*loader)->dataset.facts().classes;
    if (own.empty() || own == trained) continue;
    const auto [where, path] = place_of_classes((*loader)->dataset);
    problems.error(where, path, class_list_difference(own, trained, "train_dataloader's data set"));
  }
}

}  // namespace

std::vector<std::string> saved_classes(const Value& checkpoint) {
  const Value* meta = checkpoint.is_dict() ? checkpoint.find("meta") : nullptr;
  if (!meta || !meta->is_dict()) return {};
  const Value* of_dataset = meta->find("dataset_meta");
  const Value* classes =
      of_dataset && of_dataset->is_dict() ? of_dataset->find("classes") : meta->find("CLASSES");
  if (!classes || !(classes->is_list() || classes->is_tuple())) return {};
  ClassNames out;
  for (const Value& name : classes->as_list()) {
    if (!name.is_string()) return {};
    out.push_back(name.as_string());
  }
  strip_class_names(out);
  return out;
}

void check_classes(const RunConfig& config, bool trains, Diagnostics& problems) {
  const size_t before = problems.error_count();
  check_class_counts(config, trains, problems);
  if (problems.error_count() == before) check_class_lists(config, problems);
}

void check_saved_classes(const Spec<Dataset>& dataset, const Value& checkpoint,
                         const std::string& path) {
  const std::string wrong =
      saved_class_difference(dataset.facts().classes, saved_classes(checkpoint), path);
  if (wrong.empty()) return;
  Diagnostics problems;
  const auto [where, option] = place_of_classes(dataset);
  problems.error(where, option, wrong);
  throw ConfigError(problems);
}

void check_saved_classes_of_training(const RunConfig& config, const Value& checkpoint,
                                     const std::string& path, bool resumed) {
  if (!config.train_dataloader || !config.train_dataloader->dataset) return;
  const Spec<Dataset>& dataset = config.train_dataloader->dataset;
  const ClassNames own = dataset.facts().classes, saved = saved_classes(checkpoint);
  const std::string wrong = saved_class_difference(own, saved, path);
  if (wrong.empty()) return;
  const bool reordered = is_reordered(own, saved);
  if (!resumed && !reordered) return;
  Diagnostics problems;
  const auto [where, option] = place_of_classes(dataset);
  if (resumed && reordered) {
    problems.error(where, option, wrong);
    throw ConfigError(problems);
  }
  problems.warn(where, option, wrong);
  log::warn(problems.warnings_text());
}

}  // namespace seg
