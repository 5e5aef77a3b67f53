/// The Medical Segmentation Decathlon: a dataset.json lists volumes and names the labels.
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "registry/error.hpp"
#include "segcore/data/datasets/base_seg_dataset.hpp"
#include "segcore/data/datasets/sample_list.hpp"

namespace seg {

struct DecathlonDatasetParams : BaseSegDatasetParams {
  DecathlonDatasetParams();
};

namespace {

using nlohmann::json;

json decathlon_json(const std::string& path) {
  std::ifstream in(path);
  if (!in) throw DataError(text(path, ": cannot be opened"));
  try {
    json read = json::parse(in);
    if (!read.is_object()) throw DataError(text(path, ": is no object of JSON"));
    return read;
  } catch (const json::exception& e) {
    throw DataError(text(path, ": is no JSON: ", e.what()));
  }
}

std::string decathlon_path(const json& entry, const std::string& list, const std::string& root) {
  if (!entry.is_string()) throw DataError(text(list, ": a path of a sample is no text"));
  std::string name = entry.get<std::string>();
  if (name.starts_with("./")) name.erase(0, 2);
  return join_dataset_path(root, name);
}

/// The pairs under "training"; the images under "test" in a test.
std::vector<SampleFiles> decathlon_files(const std::string& path, const SampleFilesParams& files) {
  const auto& params = static_cast<const BaseSegDatasetParams&>(files);
  const char* part = params.test_mode ? "test" : "training";
  const json read = decathlon_json(path);
  const auto entries = read.find(part);
  if (entries == read.end() || !entries->is_array() || entries->empty()) {
    throw DataError(text(path, ": names no samples under \"", part, "\""));
  }
  const std::string root = params.data_root.value_or("");
  std::vector<SampleFiles> out;
  for (const json& entry : *entries) {
    SampleFiles found;
    if (!entry.is_object()) {
      found.image = decathlon_path(entry, path, root);
    } else if (entry.contains("image") && entry.contains("label")) {
      found.image = decathlon_path(entry["image"], path, root);
      found.annotation = decathlon_path(entry["label"], path, root);
    } else {
      throw DataError(text(path, ": a sample under \"", part, "\" lacks \"image\" or \"label\""));
    }
    out.push_back(std::move(found));
  }
  return out;
}

/// The names under "labels", in the order of their numbers; none where the config names classes.
KnownClasses decathlon_classes(const DecathlonDatasetParams& params) {
  KnownClasses known;
  if (params.metainfo && params.metainfo->classes) return known;
  const std::string path = join_dataset_path(params.data_root.value_or(""), params.ann_file);
  std::error_code none;
  // The search for the files reports that there is no list.
  if (!std::filesystem::is_regular_file(path, none)) return known;
  const json read = decathlon_json(path);
  const auto labels = read.find("labels");
  if (labels == read.end() || !labels->is_object()) {
    throw DataError(text(path, ": has no \"labels\": the names of the classes by their numbers"));
  }
  for (size_t id = 0; id < labels->size(); ++id) {
    const auto name = labels->find(std::to_string(id));
    if (name == labels->end() || !name->is_string()) {
      throw DataError(text(path, ": \"labels\" lacks the name of ", id));
    }
    known.names.push_back(name->get<std::string>());
  }
  return known;
}

}  // namespace

DecathlonDatasetParams::DecathlonDatasetParams() { read_list = decathlon_files; }

class DecathlonDataset final : public BaseSegDataset {
 public:
  using Params = DecathlonDatasetParams;
  static Schema<Params> schema() {
    return seg_dataset_schema<Params>(
               "Medical Segmentation Decathlon: volumes and classes that its dataset.json "
               "(ann_file) names.")
        .source("Antonelli et al. 2022, arXiv:2106.05735")
        .validate([](const Params& p, Problems& problems) {
          if (p.ann_file.empty()) {
            problems.error("ann_file", "DecathlonDataset needs 'ann_file': the dataset.json");
          }
        });
  }
  static DatasetFacts facts(const Params& p) {
    KnownClasses known;
    try {
      known = decathlon_classes(p);
    } catch (const DataError&) {
      // Building the data set reports what is wrong with the file.
    }
    return facts_of(p, known);
  }
  explicit DecathlonDataset(const Params& params)
      : BaseSegDataset(params, decathlon_classes(params)) {}
};
SEG_REGISTER(Dataset, DecathlonDataset);

}  // namespace seg
