/// Generated pictures in the place of a configuration's data set.
#pragma once
#include "registry/config.hpp"
#include "tools/measure/temporary_folder.hpp"

namespace seg {

/// A folder of pictures that is removed again.
class PictureFolder {
 public:
  /// Writes the pictures, and makes them the training set.
  void replace_dataset(Config& tree, int64_t height, int64_t width) const;

 private:
  void write(int64_t height, int64_t width) const;

  TemporaryFolder folder_;
};

}  // namespace seg
