/// Which files the samples of a data set are in: folders that are searched, or a list.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "registry/schema.hpp"

namespace seg {

/// `data_prefix`; a key that is left out of a given mapping means that there are no files of it.
struct DataPrefix {
  std::optional<std::string> img_path;
  std::optional<std::string> seg_map_path;
  std::optional<std::string> img_path2 = std::nullopt;
  std::optional<std::string> depth_map_path = std::nullopt;
  static Schema<DataPrefix> schema();
};

/// How names end: in one way, or in any of several.
using Suffixes = std::variant<std::string, std::vector<std::string>>;
std::vector<std::string> suffix_list(const Suffixes& suffixes);

struct SampleFiles {
  std::string image, annotation;  ///< annotation: empty for none
  std::string image2;             ///< empty where samples have one image
  std::string name;               ///< as Dataset::output_name
};

/// The options that say where samples are, and what kind of data set they are of.
struct SampleFilesParams {
  std::string ann_file;
  Suffixes img_suffix = std::string(".jpg");
  Suffixes seg_map_suffix = std::string(".png");
  std::optional<std::string> data_root;
  DataPrefix data_prefix{"", ""};
  std::optional<std::variant<int64_t, std::vector<int64_t>>> indices;
  std::optional<Suffixes> img_suffix2;  ///< where samples have two images
  bool depth = false;                   ///< annotations are maps of depth
  /// Reads an `ann_file` that is no list of lines. \throws DataError for one that cannot be read.
  std::vector<SampleFiles> (*read_list)(const std::string& path,
                                        const SampleFilesParams& params) = nullptr;
};

/// Finds the files of a data set.
class SampleFinder {
 public:
  /// \param annotated  the folder of the annotations must be there, too.
  /// \param tolerant  a list may name images that are missing.
  SampleFinder(const SampleFilesParams& params, bool annotated, bool tolerant)
      : params_(params),
        annotated_(annotated),
        tolerant_(tolerant),
        img_suffixes_(suffix_list(params.img_suffix)),
        seg_suffixes_(suffix_list(params.seg_map_suffix)) {}
  /// \throws OptionError where there are none. \throws DataError for a list that cannot be read.
  std::vector<SampleFiles> find() const;
  /// Annotations that belong to none of the `found` images.
  std::vector<std::string> annotations_without_image(const std::vector<SampleFiles>& found) const;

 private:
  std::vector<SampleFiles> read_list(const std::string& path) const;
  std::vector<SampleFiles> list_folder() const;
  std::vector<SampleFiles> select(std::vector<SampleFiles> all) const;
  const std::optional<std::string>& annotation_prefix() const {
    return params_.depth ? params_.data_prefix.depth_map_path : params_.data_prefix.seg_map_path;
  }
  /// data_root and `relative` joined, as Python joins paths.
  std::string from_root(const std::string& relative) const;
  void check_folders() const;
  std::string image_folder() const { return from_root(*params_.data_prefix.img_path); }
  std::optional<std::string> seg_folder() const;
  std::string second_image(const std::string& stem, const std::string& img_suffix) const;
  SampleFiles files_of_stem(const std::string& stem, const std::string& img_suffix) const;
  /// The suffix that an image's name ends in, the longest; nothing for other names.
  std::optional<std::string> img_suffix_of(const std::string& name) const;
  void report_left_out(const std::string& folder, const std::vector<std::string>& names) const;
  void name_outputs(std::vector<SampleFiles>& all) const;

  const SampleFilesParams& params_;
  bool annotated_, tolerant_;
  std::vector<std::string> img_suffixes_, seg_suffixes_;
};

}  // namespace seg
