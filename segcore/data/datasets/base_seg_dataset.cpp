#include "segcore/data/datasets/base_seg_dataset.hpp"

#include <algorithm>
#include <charconv>
#include <opencv2/core.hpp>

#include "registry/error.hpp"
#include "registry/log.hpp"
#include "segcore/data/datasets/sample_list.hpp"
#include "segcore/data/for_each_sample.hpp"
#include "segcore/data/sample_picture.hpp"
#include "segcore/image/image_io.hpp"

namespace seg {

namespace {

std::optional<int64_t> label_value(const std::string& written) {
  int64_t value = 0;
  const auto [end, trouble] =
      std::from_chars(written.data(), written.data() + written.size(), value);
  const bool whole = trouble == std::errc() && end == written.data() + written.size();
  return whole ? std::optional(value) : std::nullopt;
}

/// Each data set has its own of the folders that `data_prefix` can name.
void check_prefix(const SampleFilesParams& params, Problems& problems) {
  const DataPrefix& prefix = params.data_prefix;
  if (!prefix.img_path) {
    problems.error("data_prefix", "needs 'img_path': the folder of the images");
  }
  const bool two = params.img_suffix2.has_value();
  if (two && !prefix.img_path2) {
    problems.error("data_prefix", "needs 'img_path2': the folder of the second images");
  } else if (!two && prefix.img_path2) {
    problems.error("data_prefix",
                   "'img_path2' is of data sets with two images a sample: use BaseCDDataset, or "
                   "remove it");
  }
  if (params.depth && prefix.seg_map_path) {
    problems.error("data_prefix",
                   "'seg_map_path' has no effect: the folder of the depth maps is "
                   "'depth_map_path'");
  } else if (!params.depth && prefix.depth_map_path) {
    problems.error("data_prefix",
                   "'depth_map_path' is of data sets of depth: use NYUDataset, or write "
                   "'seg_map_path'");
  }
}

bool is_json(const std::string& name) { return name.ends_with(".json"); }

/// The images of a COCO file, each with that file as its annotation.
std::vector<SampleFiles> coco_samples(const std::string& path, const SampleFilesParams& params) {
  const std::string folder =
      join_dataset_path(params.data_root.value_or(""), params.data_prefix.img_path.value_or(""));
  std::vector<SampleFiles> out;
  for (const auto& name : coco_images(path)) {
    SampleFiles files;
    files.image = join_dataset_path(folder, name);
    files.annotation = path;
    out.push_back(std::move(files));
  }
  if (out.empty()) throw OptionError("ann_file", text("'", path, "' names no images"));
  return out;
}

}  // namespace

void detail::check_seg_dataset(const BaseSegDatasetParams& params, Problems& problems) {
  if (params.backend_args) {
    const auto backend = params.backend_args->find("backend");
    if (backend != params.backend_args->end() && backend->second.scalar != "local" &&
        backend->second.scalar != "disk") {
      problems.error("backend_args", text("files are read from the local disk only, not from '",
                                          backend->second.scalar, "'"));
    }
  }
  if (params.reduce_zero_label && !params.label_map.empty()) {
    problems.error("label_map", "reduce_zero_label maps labels, too; give one of the two");
  }
  for (const auto& [from, to] : params.label_map) {
    if (!label_value(from)) {
      problems.error("label_map", text("'", from, "' is no label; labels are whole numbers"));
    }
    // Labels of most files are bytes.
    if (to < 0 || to > 255) {
      problems.error("label_map", text(from, " becomes ", to, "; labels are 0 to 255"));
    }
  }
  if (suffix_list(params.img_suffix).empty()) problems.error("img_suffix", "needs a suffix");
  if (suffix_list(params.seg_map_suffix).empty()) {
    problems.error("seg_map_suffix", "needs a suffix");
  }
  check_prefix(params, problems);
  if (!params.windows) return;
  if (params.cache) {
    problems.error("cache",
                   "copies whole files, of which windows read parts: remove one of the two");
  }
  if (params.depth) {
    problems.error("windows", "are of data sets of classes; maps of depth are read as a whole");
  }
  const auto suffixes = suffix_list(params.seg_map_suffix);
  if (is_json(params.ann_file) || std::ranges::any_of(suffixes, is_json)) {
    problems.error("windows", "are of rasters with labels of pixels, not of shapes (.json)");
  }
}

Schema<BaseSegDatasetParams> BaseSegDataset::schema() {
  return seg_dataset_schema<Params>(
      "Images and annotations in folders, paired by name, or in a list of files.");
}

DatasetFacts BaseSegDataset::facts_of(const Params& params, const KnownClasses& known) {
  DatasetFacts facts{.inner = {}, .pipeline = params.pipeline, .classes = {}};
  try {
    facts.classes = class_names(params.metainfo, known);
  } catch (const OptionError&) {
    // Building the data set reports the file of names that cannot be read.
  }
  return facts;
}

BaseSegDataset::BaseSegDataset(const Params& params, const KnownClasses& known,
                               std::optional<int64_t> unlabelled)
    : params_(params), pipeline_(params.pipeline) {
  loads_annotations_ = params_.pipeline.empty() || pipeline_.loads_labels();
  ResolvedClasses classes =
      resolve_classes(params_.metainfo, known, unlabelled, params_.ignore_index);
  meta_.classes = std::move(classes.names);
  meta_.palette = std::move(classes.palette);
  label_map_ = classes.label_map;
  for (const auto& [from, to] : params_.label_map) {
    // What becomes a class goes on as that class does.
    const auto known_class =
        std::find_if(classes.label_map.begin(), classes.label_map.end(),
                     [id = to](const auto& entry) { return entry.first == id; });
    label_map_.emplace_back(*label_value(from),
                            known_class == classes.label_map.end() ? to : known_class->second);
  }
  choose_coding(known);
  meta_.reduce_zero_label = params_.reduce_zero_label;
  meta_.ignore_index = params_.ignore_index;
  if (params_.test_mode && meta_.classes.empty()) {
    throw OptionError("test_mode",
                      "test_mode needs the names of the classes: metainfo: {classes: "
                      "[...]}");
  }
  if (params_.cache) cache_ = open_dataset_cache(*params_.cache);
  if (!params_.lazy_init) files();
}

void BaseSegDataset::choose_coding(const KnownClasses& known) {
  const auto suffixes = suffix_list(params_.seg_map_suffix);
  const bool labelme = std::ranges::all_of(suffixes, is_json);
  const bool coco = is_json(params_.ann_file) && !params_.read_list;
  if (coco) params_.read_list = coco_samples;
  if (!loads_annotations_ || !(coco || labelme || params_.label_colors == "palette")) return;
  if (params_.reduce_zero_label) {
    throw OptionError("reduce_zero_label",
                      "is for pictures of class ids; colours and shapes name classes themselves");
  }
  if (coco || labelme) {
    if (meta_.classes.empty()) {
      throw OptionError("metainfo", "shapes name classes: give them, metainfo: {classes: [...]}");
    }
    const std::string path = join_dataset_path(params_.data_root.value_or(""), params_.ann_file);
    coding_ = coco ? coco_coding(path, meta_.classes) : labelme_coding(meta_.classes);
    label_map_.clear();  // shapes have the names of the classes as they are now
    return;
  }
  // The files have the colours of all classes, of which the config may have chosen some.
  const Palette& palette = known.palette.empty() ? meta_.palette : known.palette;
  if (palette.empty()) {
    throw OptionError("label_colors",
                      "needs the colours: metainfo: {classes: [...], palette: [...]}");
  }
  coding_ = color_coding(palette);
}

void BaseSegDataset::list_samples() const {
  files_ = SampleFinder(params_, loads_annotations_, params_.skip_corrupt).find();
  if (!params_.windows) {
    for (size_t file = 0; file < files_.size(); ++file) samples_.push_back({file, {}});
    return;
  }
  samples_ = list_windows(files_, *params_.windows, loads_annotations_, params_.skip_corrupt);
  const size_t all = samples_.size();
  if (params_.windows->min_valid) leave_out_invalid_windows();
  log::info("windows: ", samples_.size(), " of ", files_.size(),
            files_.size() == 1 ? " raster" : " rasters",
            all > samples_.size() ? text("; left out for want of labels: ", all - samples_.size())
                                  : std::string());
}

void BaseSegDataset::leave_out_invalid_windows() const {
  const std::string option = "windows.min_valid";
  if (!loads_annotations_) {
    throw OptionError(option, "needs labels, which no step of the pipeline loads");
  }
  // Samples that cannot be read stay: reading them reports it, in training as elsewhere.
  std::vector<double> shares(samples_.size(), 1);
  for_each_sample(samples_.size(), params_.skip_corrupt, [&](size_t i) {
    const cv::Mat labels = pipeline_.load_labels(sample_of(i, samples_[i])).labels;
    const int ignored = cv::countNonZero(labels == static_cast<double>(params_.ignore_index));
    const auto all = static_cast<double>(labels.total());
    shares[i] = labels.empty() ? 0 : 1 - ignored / all;
  });
  size_t at = 0;
  std::erase_if(samples_, [&](const RasterWindow&) {
    const double share = shares[at++];
    return share == 0 || share < *params_.windows->min_valid;
  });
  if (samples_.empty()) {
    throw OptionError(option, text("leaves none of ", at, " windows: their labels are ignored"));
  }
}

const std::vector<RasterWindow>& BaseSegDataset::samples() const {
  std::call_once(listed_, [this] { list_samples(); });
  return samples_;
}

const std::vector<SampleFiles>& BaseSegDataset::files() const {
  samples();
  return files_;
}

size_t BaseSegDataset::size() const { return samples().size(); }

std::pair<std::string, std::string> BaseSegDataset::paths(size_t index) const {
  return paths_of(samples().at(index));
}

std::pair<std::string, std::string> BaseSegDataset::paths_of(const RasterWindow& window) const {
  const SampleFiles& found = files_.at(window.file);
  return {found.image, loads_annotations_ ? found.annotation : std::string()};
}

std::string BaseSegDataset::output_name(size_t index) const { return name_of(samples().at(index)); }

std::string BaseSegDataset::name_of(const RasterWindow& window) const {
  const std::string& name = files_.at(window.file).name;
  return params_.windows ? text(name, "_y", window.rect.y, "_x", window.rect.x) : name;
}

std::vector<std::string> BaseSegDataset::annotations_without_image() const {
  return SampleFinder(params_, loads_annotations_, params_.skip_corrupt)
      .annotations_without_image(files());
}

Sample BaseSegDataset::describe(size_t index) const {
  return sample_of(index, samples().at(index));
}

Sample BaseSegDataset::sample_of(size_t index, const RasterWindow& window) const {
  Sample sample = sample_of_files(index, paths_of(window));
  sample.meta.name = name_of(window);
  sample.meta.img_path2 = files_.at(window.file).image2;
  sample.meta.window = window.rect;
  if (params_.depth) std::swap(sample.meta.seg_map_path, sample.meta.depth_map_path);
  sample.label_map = label_map_;
  sample.coding = coding_.get();
  sample.cache = cache_.get();
  sample.cache_decoded = cache_ && keeps_decoded(*params_.cache);
  return sample;
}

Sample BaseSegDataset::with_labels(size_t index) const {
  return pipeline_.load_labels(describe(index));
}

RawLabels BaseSegDataset::raw_labels(size_t index) const {
  const std::string path = paths(index).second;
  if (path.empty()) return {};
  const Sample sample = describe(index);
  if (const LabelReader* reader = pipeline_.label_reader()) return reader->read(sample);
  if (coding_) return coding_->decode(sample, {});
  return {read_sample_labels(sample, path, {}), {}};
}

std::vector<size_t> BaseSegDataset::corrupt_samples() const {
  const std::lock_guard lock(corrupt_mutex_);
  return {corrupt_.begin(), corrupt_.end()};
}

void BaseSegDataset::note_corrupt(size_t index, const std::string& why) const {
  size_t count = 0;
  {
    const std::lock_guard lock(corrupt_mutex_);
    if (!corrupt_.insert(index).second) return;
    count = corrupt_.size();
  }
  log::warn("sample ", index, " is skipped: ", why, " (", count, " skipped so far)");
}

std::vector<Sample> BaseSegDataset::unpacked(size_t index, uint64_t seed, uint64_t epoch,
                                             Unusable unusable) const {
  const size_t count = size();
  SEG_CHECK(index < count, "sample ", index, " of ", count);
  if (unusable == Unusable::kLeftOut) {
    try {
      return pipeline_.run(describe(index), seed, epoch);
    } catch (const EmptySample& e) {
      if (params_.test_mode && !params_.skip_corrupt) throw;
      note_corrupt(index, e.what());
    } catch (const DataError& e) {
      if (!params_.skip_corrupt) throw;
      note_corrupt(index, e.what());
    }
    return {};
  }
  std::string last;
  for (size_t i = 0; i <= static_cast<size_t>(params_.max_refetch) && i < count; ++i) {
    const size_t tried = (index + i) % count;
    try {
      return pipeline_.run(describe(tried), seed, epoch);
    } catch (const EmptySample& e) {
      if (params_.test_mode) throw;
      last = e.what();
      note_corrupt(tried, last);
    } catch (const DataError& e) {
      if (!params_.skip_corrupt) throw;
      last = e.what();
      note_corrupt(tried, last);
    }
  }
  throw DataError(text("no usable sample in ",
                       std::min(static_cast<size_t>(params_.max_refetch) + 1, count),
                       " tried, beginning at sample ", index, "; the last: ", last));
}

SEG_REGISTER(Dataset, BaseSegDataset);

}  // namespace seg
