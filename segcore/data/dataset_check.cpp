#include "segcore/data/dataset_check.hpp"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <map>
#include <mutex>
#include <unordered_set>

#include "registry/error.hpp"
#include "registry/log.hpp"
#include "segcore/data/label_size.hpp"
#include "segcore/data/transform.hpp"
#include "segcore/image/image_io.hpp"
#include "segcore/io/volume_file.hpp"

namespace seg {
namespace {

constexpr size_t kNamedFiles = 3;
/// Stands for pixels without data among raw labels.
constexpr int32_t kNoDataLabel = INT32_MIN;

/// Indices of `wanted` samples spread evenly over `size`.
std::vector<size_t> spread_indices(size_t size, size_t wanted) {
  const size_t count = std::min(size, wanted);
  std::vector<size_t> out(count);
  for (size_t i = 0; i < count; ++i) out[i] = i * size / count;
  return out;
}

/// "3 images are missing: a, b, c" and how many more.
std::string named_files(const std::vector<std::string>& files) {
  std::string out;
  for (size_t i = 0; i < std::min(files.size(), kNamedFiles); ++i) {
    out += (i ? ", " : "") + files[i];
  }
  if (files.size() > kNamedFiles) out += text(" and ", files.size() - kNamedFiles, " more");
  return out;
}

/// Tells which files exist by listing their folders once: on network disks much faster than asking
/// for each file.
class FolderLists {
 public:
  bool has(const std::string& path) {
    const std::filesystem::path full(path);
    const std::string folder = full.has_parent_path() ? full.parent_path().string() : ".";
    auto [it, fresh] = names_.try_emplace(folder);
    if (fresh) {
      std::error_code trouble;
      for (std::filesystem::directory_iterator at(folder, trouble), end; !trouble && at != end;
           at.increment(trouble)) {
        std::error_code none;
        if (at->is_symlink(none) && !at->exists(none)) continue;  // a link to nothing
        it->second.insert(at->path().filename().string());
      }
    }
    return it->second.contains(full.filename().string());
  }
  /// After `has`: a file whose name differs in nothing but small letters and capitals; "" for none.
  std::string in_other_case(const std::string& path) const {
    const std::filesystem::path full(path);
    const std::string folder = full.has_parent_path() ? full.parent_path().string() : ".";
    const std::string wanted = in_small_letters(full.filename().string());
    for (const auto& name : names_.at(folder)) {
      if (in_small_letters(name) == wanted) return name;
    }
    return "";
  }

 private:
  static std::string in_small_letters(std::string name) {
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return name;
  }

  std::map<std::string, std::unordered_set<std::string>> names_;
};

struct PairsFound {
  size_t files = 0, annotated = 0, in_memory = 0;
  std::vector<std::string> missing_images, missing_annotations;
  std::string other_case;  ///< what is there in place of the first missing image
};

PairsFound find_pairs(const Dataset& dataset, size_t limit) {
  PairsFound found;
  FolderLists folders;
  for (const size_t index : spread_indices(dataset.size(), limit)) {
    if (dataset.in_memory(index)) {
      ++found.in_memory;
      continue;
    }
    const auto [image, annotation] = dataset.paths(index);
    ++found.files;
    if (!folders.has(image)) {
      if (found.missing_images.empty()) found.other_case = folders.in_other_case(image);
      found.missing_images.push_back(image);
    }
    if (const std::string second = dataset.describe(index).meta.img_path2; !second.empty()) {
      ++found.files;
      if (!folders.has(second)) found.missing_images.push_back(second);
    }
    if (annotation.empty()) continue;
    ++found.annotated;
    if (!folders.has(annotation)) found.missing_annotations.push_back(annotation);
  }
  return found;
}

/// "3 of 367 images are missing: a, b, c."
std::string missing_text(const std::vector<std::string>& missing, size_t of, const char* what) {
  return text(missing.size(), " of ", of, " ", what, missing.size() == 1 ? " is" : " are",
              " missing: ", named_files(missing));
}

struct RawLabel {
  int64_t label = 0;  ///< what it becomes
  uint64_t pixels = 0;
};
using LabelCounts = std::map<int64_t, RawLabel>;

int64_t label_at(const cv::Mat& labels, int y, int x) {
  return labels.depth() == CV_8U ? labels.at<uint8_t>(y, x) : labels.at<int32_t>(y, x);
}

/// Adds the pixels of one annotation. Neighbours are mostly equal, so runs are counted.
void count_labels(const cv::Mat& raw, const cv::Mat& mapped, LabelCounts& counts) {
  for (int y = 0; y < raw.rows; ++y) {
    for (int x = 0; x < raw.cols;) {
      const int64_t value = label_at(raw, y, x);
      const int begin = x;
      while (x < raw.cols && label_at(raw, y, x) == value) ++x;
      RawLabel& entry = counts[value];
      entry.label = label_at(mapped, y, begin);
      entry.pixels += static_cast<uint64_t>(x - begin);
    }
  }
}

std::pair<int, int> place_of(const cv::Mat& raw, int64_t value) {
  for (int y = 0; y < raw.rows; ++y) {
    for (int x = 0; x < raw.cols; ++x) {
      if (label_at(raw, y, x) == value) return {y, x};
    }
  }
  return {0, 0};
}

/// Loads the image where its header does not settle whether it is as large as the labels, and
/// where its values may be none: floats, which may hold NaN.
void check_image(const Dataset& dataset, size_t index, Sample sample, const cv::Mat& labels,
                 bool decode) {
  const std::string& path = sample.meta.img_path;
  // Arrays have no header that would settle it.
  const ImageInfo info = is_volume_file(path) ? ImageInfo() : read_image_info(path);
  // Files that windows are read of were compared when the windows were listed.
  const bool same =
      !sample.meta.window.empty() || (info.height == labels.rows && info.width == labels.cols);
  if (same && info.orientation < 5 && !info.floats && !decode) return;
  const Sample loaded = dataset.with_image(index);
  sample.meta.ori_shape = loaded.image.empty() ? std::array<int64_t, 2>{info.height, info.width}
                                               : loaded.meta.ori_shape;
  sample.labels = labels;
  check_label_size(sample);
}

/// A label that no class has: no reason to skip the sample, all of the data set is at fault.
class UnknownLabel : public DataError {
  using DataError::DataError;
};

class LabelCheck {
 public:
  LabelCheck(const Dataset& dataset, const DatasetCheckParams& params)
      : dataset_(dataset), meta_(dataset.meta()), ignored_(params.also_ignored) {
    ignored_.push_back(meta_.ignore_index);
    load_ = Spec<Transform>::of("{type: LoadAnnotations}").build();
    decode_images_ = params.annotations == DatasetCheckParams::kAll;
  }

  /// Counts one sample; the labels that no class has are an error. Several threads may do so.
  void add(size_t index) {
    Sample sample = dataset_.describe(index);
    if (sample.labels.empty() && sample.meta.seg_map_path.empty()) return;
    if (is_volume_file(sample.meta.seg_map_path)) return;
    LabelCounts mine;
    cv::Mat raw = sample.labels;
    const char* lossy = nullptr;
    if (!dataset_.in_memory(index)) {
      const auto found = dataset_.raw_labels(index);
      check_image(dataset_, index, sample, found.ids, decode_images_);
      lossy = lossy_format(sample.meta.seg_map_path);
      found.ids.convertTo(raw, CV_32S);
      if (!found.missing.empty()) raw.setTo(kNoDataLabel, found.missing);
      sample = dataset_.with_labels(index);
      if (sample.labels.empty()) {
        Rng unused(0, RngPurpose::kCheck, 0, index);
        load_->apply(sample, unused);
      }
    }
    count_labels(raw, sample.labels, mine);
    for (const auto& [value, found] : mine) {
      if (!meta_.classes.empty()) check(sample, raw, value, found.label, lossy);
    }
    const std::lock_guard lock(mutex_);
    for (const auto& [value, found] : mine) {
      RawLabel& sum = counts_[value];
      sum.label = found.label;
      sum.pixels += found.pixels;
    }
    if (lossy && lossy_++ == 0) first_lossy_ = sample.meta.seg_map_path;
    ++annotations_;
  }

  /// What is odd about the labels as a whole, for warnings.
  std::vector<std::string> oddities() const {
    std::vector<std::string> out;
    if (lossy_ > 0) {
      out.push_back(text(lossy_, " of ", annotations_, " annotations looked at ",
                         lossy_ == 1 ? "is" : "are",
                         " saved with loss (JPEG), which changes "
                         "labels where classes meet: save them as PNG. The first: ",
                         first_lossy_));
    }
    const auto white = counts_.find(255);
    const bool two_values = white != counts_.end() && is_ignored(white->second.label) &&
                            counts_.size() == (counts_.contains(0) ? 2 : 1);
    if (two_values && meta_.classes.size() > 1 && !meta_.reduce_zero_label) {
      out.push_back(
          text("the annotations hold 0 and 255 alone, and 255 is ignored, so that no pixel "
               "is '",
               meta_.classes[1],
               "'. If 255 means that class, give the data set this line: "
               "label_map: {255: 1}"));
    }
    return out;
  }

  size_t annotations() const { return annotations_; }
  bool all_ignored() const {
    return std::all_of(counts_.begin(), counts_.end(),
                       [&](const auto& entry) { return is_ignored(entry.second.label); });
  }

  /// The table, and the classes that were not seen.
  std::string table() const {
    uint64_t all = 0;
    for (const auto& [value, found] : counts_) all += found.pixels;
    std::string out = "     raw  class                      share of pixels";
    std::vector<bool> seen(meta_.classes.size());
    for (const auto& [value, found] : counts_) {
      std::string name = text(found.label);
      if (is_ignored(found.label)) {
        name = "ignored";
      } else if (found.label >= 0 && static_cast<size_t>(found.label) < meta_.classes.size()) {
        name += " " + meta_.classes[static_cast<size_t>(found.label)];
        seen[static_cast<size_t>(found.label)] = true;
      }
      char line[160];
      const std::string written = value == kNoDataLabel ? "nodata" : std::to_string(value);
      std::snprintf(line, sizeof line, "\n%8s  %-30.60s %8.3f %%", written.c_str(), name.c_str(),
                    100.0 * static_cast<double>(found.pixels) / static_cast<double>(all));
      out += line;
    }
    std::vector<std::string> unseen;
    for (size_t i = 0; i < seen.size(); ++i) {
      if (!seen[i]) unseen.push_back(meta_.classes[i]);
    }
    constexpr size_t kNamedClasses = 10;
    if (!unseen.empty()) {
      const size_t count = unseen.size();
      unseen.resize(std::min(count, kNamedClasses));
      out += text("\n", count, count == 1 ? " class is" : " classes are",
                  " in none of these annotations: ", join(unseen, ", "),
                  count > kNamedClasses ? ", ..." : "");
    }
    return out;
  }

 private:
  bool is_ignored(int64_t label) const {
    return std::find(ignored_.begin(), ignored_.end(), label) != ignored_.end();
  }

  static const char* lossy_format(const std::string& path) {
    if (path.ends_with(".json")) return nullptr;  // shapes
    const ImageInfo info = read_image_info(path);
    return info.lossy ? info.format : nullptr;
  }

  void check(const Sample& sample, const cv::Mat& raw, int64_t value, int64_t label,
             const char* lossy) const {
    const auto classes = static_cast<int64_t>(meta_.classes.size());
    if ((label >= 0 && label < classes) || is_ignored(label)) return;
    const auto [y, x] = place_of(raw, value);
    const cv::Point origin = sample.meta.window.tl();
    std::string became = label == value ? "" : text(", which becomes ", label, ",");
    std::string hint;
    if (lossy) {
      hint = text(". The file is ", lossy,
                  ", which changes values when it is saved: save labels as PNG");
    } else if (classes == 1) {
      hint = ". The background is a class too: name it first in classes";
    } else if (value == classes && !meta_.reduce_zero_label) {
      hint = ". If labels begin at 1, set reduce_zero_label: true";
    }
    throw UnknownLabel(text(sample.meta.seg_map_path, ": the label ", value, became, " at row ",
                            origin.y + y, ", column ", origin.x + x, " is none of the ", classes,
                            " classes (0 to ", classes - 1,
                            ") and not ignored (ignore_index: ", meta_.ignore_index, ")", hint));
  }

  const Dataset& dataset_;
  const DatasetMeta& meta_;
  std::vector<int64_t> ignored_;
  std::unique_ptr<Transform> load_;
  bool decode_images_ = false;
  std::mutex mutex_;
  LabelCounts counts_;
  size_t annotations_ = 0, lossy_ = 0;
  std::string first_lossy_;
};

/// One error for all samples that cannot be used.
/// \param of  how many were looked at
void throw_unusable(std::vector<std::string> reasons, size_t of) {
  if (reasons.empty()) return;
  if (reasons.size() == 1) throw DataError(reasons[0]);
  constexpr size_t kNamed = 20;
  const size_t count = reasons.size();
  reasons.resize(std::min(count, kNamed));
  throw DataError(text(count, " of the ", of, " samples looked at cannot be used:\n  ",
                       join(reasons, "\n  "),
                       count > kNamed ? text("\n  and ", count - kNamed, " more") : ""));
}

}  // namespace

std::string check_files(const Dataset& dataset, const std::string& name, bool annotations,
                        const DatasetCheckParams& params) {
  const PairsFound pairs = find_pairs(dataset, params.pairs);
  std::vector<std::string> missing;
  if (!pairs.missing_images.empty()) {
    missing.push_back(missing_text(pairs.missing_images, pairs.files, "images"));
    if (!pairs.other_case.empty()) {
      missing.back() += text(" (", pairs.other_case,
                             " is there: capitals count, and img_suffix takes a list of endings)");
    }
  }
  if (annotations && !pairs.missing_annotations.empty()) {
    missing.push_back(missing_text(pairs.missing_annotations, pairs.annotated, "annotations"));
  }
  const auto lonely = dataset.annotations_without_image();
  const std::string without =
      lonely.empty()
          ? ""
          : text(lonely.size(), lonely.size() == 1 ? " annotation has" : " annotations have",
                 " no image: ", named_files(lonely));
  if (!missing.empty() && !dataset.skips_corrupt()) {
    if (!without.empty()) missing.push_back(without);
    throw DataError(text(name, ": ", join(missing, "; ")));
  }
  std::string out = text(name, ": ", dataset.size(), dataset.size() == 1 ? " sample" : " samples");
  if (pairs.in_memory == 0) {
    out += missing.empty() ? text(", files of ", pairs.files, " looked for and found")
                           : "; skipped: " + join(missing, "; ");
  }
  if (!without.empty()) out += "; " + without;
  return out;
}

std::string check_dataset(const Dataset& dataset, const std::string& name,
                          const DatasetCheckParams& params) {
  std::string out = check_files(dataset, name, /*annotations=*/true, params);
  LabelCheck labels(dataset, params);
  const auto indices = spread_indices(dataset.size(), params.annotations);
  std::vector<std::exception_ptr> failures(indices.size());
  at::parallel_for(0, static_cast<int64_t>(indices.size()), 1, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      try {
        labels.add(indices[i]);
      } catch (...) {
        failures[i] = std::current_exception();
      }
    }
  });
  std::vector<std::string> unusable;
  for (const auto& failure : failures) {
    if (!failure) continue;
    try {
      std::rethrow_exception(failure);
    } catch (const UnknownLabel&) {
      throw;
    } catch (const DataError& e) {
      if (dataset.skips_corrupt()) {
        out += text("\nskipped: ", e.what());
      } else {
        unusable.emplace_back(e.what());
      }
    }
  }
  throw_unusable(unusable, indices.size());
  for (const auto& oddity : labels.oddities()) log::warn(name, ": ", oddity);
  if (labels.annotations() == 0) return out + "\nno annotations";
  if (labels.all_ignored()) {
    log::warn(name, ": all pixels of the ", labels.annotations(),
              labels.annotations() == 1 ? " annotation" : " annotations",
              " looked at are ignored: they teach and measure nothing");
  }
  return out + text("\nlabels of ", labels.annotations(),
                    labels.annotations() == 1 ? " annotation" : " annotations", ":\n",
                    labels.table());
}

}  // namespace seg
