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
  static Schema<DataPrefix> schema();
};

/// The options that say where samples are.
struct SampleFilesParams {
  std::string ann_file;
  std::string img_suffix = ".jpg";
  std::string seg_map_suffix = ".png";
  std::optional<std::string> data_root;
  DataPrefix data_prefix{"", ""};
  std::optional<std::variant<int64_t, std::vector<int64_t>>> indices;
};

struct SampleFiles {
  std::string image, annotation;  ///< annotation: empty for none
};

/// Finds the files of a data set.
class SampleFinder {
 public:
  /// \param annotated  the folder of the annotations must be there, too.
  SampleFinder(const SampleFilesParams& params, bool annotated)
      : params_(params), annotated_(annotated) {}
  /// \throws OptionError where there are none. \throws DataError for a list that cannot be read.
  std::vector<SampleFiles> find() const;
  /// Annotations that belong to none of the `found` images.
  std::vector<std::string> annotations_without_image(const std::vector<SampleFiles>& found) const;

 private:
  std::vector<SampleFiles> read_list(const std::string& path) const;
  std::vector<SampleFiles> list_folder() const;
  std::vector<SampleFiles> select(std::vector<SampleFiles> all) const;
  /// data_root and `relative` joined, as Python joins paths.
  std::string from_root(const std::string& relative) const;
  void check_folders() const;

  const SampleFilesParams& params_;
  bool annotated_;
};

}  // namespace seg
