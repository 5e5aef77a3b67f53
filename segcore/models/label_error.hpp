/// A label that no class has.
#pragma once
#include <cstdint>
#include <string>

#include "registry/error.hpp"

namespace seg {

/// Losses know an image by its place in the batch; who has the samples names the file.
class LabelError : public DataError {
 public:
  LabelError(int64_t image, const std::string& message) : DataError(message), image_(image) {}
  /// Its place in the batch.
  int64_t image() const { return image_; }

 private:
  int64_t image_;
};

}  // namespace seg
