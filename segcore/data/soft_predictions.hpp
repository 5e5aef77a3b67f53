/// Probabilities that a model predicted for images, in a file.
#pragma once
#include <ATen/core/Tensor.h>

#include <string>
#include <unordered_map>

namespace seg {

/// A .safetensors file of a test with `--out-probs`: maps by the names of images
/// (SampleMeta::name). It is mapped, not read.
class SoftPredictions {
 public:
  /// \throws DataError where there is no file, or it holds something else.
  /// \throws CheckpointError for a damaged one.
  explicit SoftPredictions(const std::string& path);
  /// Float or half [C, H, W]; null where the image was not predicted.
  const at::Tensor* find(const std::string& name) const;
  /// C of the first image.
  int64_t num_maps() const { return maps_.begin()->second.size(0); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  std::unordered_map<std::string, at::Tensor> maps_;
};

}  // namespace seg
