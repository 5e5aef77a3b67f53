/// Stores the probabilities that a test predicts.
#pragma once
#include <set>
#include <string>

#include "segcore/data/dataset.hpp"
#include "segcore/dist/communicator.hpp"
#include "segcore/io/safetensors.hpp"

namespace seg {

/// A .safetensors file with a tensor [C, H, W] in half precision for each image, under its name
/// (SampleMeta::name), that grows image by image and can be mapped. Several processes write one
/// file each, of which the first makes one.
class SoftPredictionFile {
 public:
  /// \param dataset  must outlive it. \throws FileError
  SoftPredictionFile(const std::string& path, const Dataset& dataset,
                     const Communicator& communicator);
  /// \throws DataError where another image has the same name. \throws FileError
  void add(const Prediction& prediction, const SampleMeta& meta);
  /// Makes the file visible. Collective. \throws DataError, FileError
  void write(Communicator& communicator);

 private:
  /// Appends what another process predicted, and deletes its file.
  void take_over(int rank);

  std::string path_;
  const Dataset& dataset_;
  SafetensorsWriter writer_;
  std::set<int64_t> indices_;  ///< of the images that this process predicted
};

}  // namespace seg
