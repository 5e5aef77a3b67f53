/// Checks a data set before training: whether its files exist, and which labels they hold.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "segcore/data/dataset.hpp"

namespace seg {

struct DatasetCheckParams {
  static constexpr size_t kAll = SIZE_MAX;
  /// Annotations whose pixels are counted, spread evenly over the data set. With kAll the images
  /// are decoded, too.
  size_t annotations = 32;
  /// Samples whose files must exist, spread evenly; none is read.
  size_t pairs = 20000;
  /// Labels that the losses and metrics ignore besides the data set's own ignore_index.
  std::vector<int64_t> also_ignored;
};

/// \param name  what the log calls the data set: "train".
/// \return lines for the log: the pairs, and a table raw label -> class -> share of the pixels.
/// \throws DataError for missing images or annotations (three of each are named; no error where the
///         data set has skip_corrupt), and for a label that is neither a class nor ignored, with
///         its file. Labels that look like a mistake as a whole are warned of.
std::string check_dataset(const Dataset& dataset, const std::string& name,
                          const DatasetCheckParams& params = {});

}  // namespace seg
