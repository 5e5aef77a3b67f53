/// Mean and standard deviation of the bands of a data set, for the data preprocessor.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "segcore/data/dataset.hpp"

namespace seg {

struct BandStatistics {
  std::vector<double> mean, std;  ///< of each band, in the order of the loaded images
  int64_t images = 0;
};

/// Of all pixels as the pipeline loads them, before anything changes them, in several threads.
/// Pixels without data count with the value that they are filled with. Samples that cannot be read
/// are left out where the data set skips such.
/// \param images  how many, spread evenly over the data set
/// \throws DataError for images that cannot be read, or have different numbers of bands.
BandStatistics band_statistics(const Dataset& dataset, size_t images);

/// As the options of a SegDataPreProcessor. Three bands are in the order RGB, with bgr_to_rgb.
std::string preprocessor_yaml(const BandStatistics& statistics);

}  // namespace seg
