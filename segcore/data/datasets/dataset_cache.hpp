/// `cache` of a data set: copies of its files on a faster disk or in memory.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "registry/schema.hpp"
#include "segcore/io/file_cache.hpp"

namespace seg {

struct DatasetCacheParams {
  std::string to;  ///< "ram", or a folder
  std::optional<double> max_gb;
  bool decoded = false;
  static Schema<DatasetCacheParams> schema();
};

/// `cache: ram`, `cache: /scratch/me`, or `cache: {to: ram, max_gb: 20, decoded: true}`.
using DatasetCache = std::variant<std::string, DatasetCacheParams>;

bool keeps_decoded(const DatasetCache& asked);

/// The cache asked for; data sets of one process that ask for the same folder share it.
/// \throws OptionError where it cannot be made.
std::shared_ptr<const FileCache> open_dataset_cache(const DatasetCache& asked);

}  // namespace seg
