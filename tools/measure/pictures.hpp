/// Generated pictures in the place of a configuration's data set.
#pragma once
#include <string>

#include "registry/config.hpp"

namespace seg {

/// A folder of pictures that is removed again.
class PictureFolder {
 public:
  PictureFolder();
  ~PictureFolder();
  PictureFolder(const PictureFolder&) = delete;
  PictureFolder& operator=(const PictureFolder&) = delete;

  /// Writes the pictures, and makes them the training set.
  void replace_dataset(Config& tree, int64_t height, int64_t width) const;

 private:
  void write(int64_t height, int64_t width) const;

  std::string path_;
};

}  // namespace seg
