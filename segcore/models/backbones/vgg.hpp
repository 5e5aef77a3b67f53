/// The convolutions of VGG, under torchvision's names.
#pragma once
#include <memory>
#include <vector>

#include "registry/schema.hpp"
#include "segcore/models/nn/base_module.hpp"

namespace seg {

/// Convolutions of each of the five stages; empty for a depth that VGG does not have.
std::vector<int64_t> vgg_convs(int64_t depth);

/// The values of `depth`.
inline Check<int64_t> one_of_vgg_depths() {
  return {[](const int64_t& v) {
            return vgg_convs(v).empty() ? text("must be 11, 13, 16 or 19, got ", v) : "";
          },
          {}};
}

struct VGGLayersOptions {
  int64_t depth = 16;
  bool with_bn = false;
  int64_t in_channels = 3;
  std::vector<int64_t> dilations{1, 1, 1, 1, 1};
  int64_t num_stages = 5;
};

/// Convolutions with their norms and activations: children "0", "1", ... numbered as in
/// torchvision, where a pooling follows each stage.
class VGGLayers final : public BaseModule {
 public:
  explicit VGGLayers(const VGGLayersOptions& options);
  /// One stage, without the pooling after it.
  torch::Tensor run_stage(size_t stage, const torch::Tensor& x);
  /// Stops the training of a stage; its norms keep their running statistics.
  void freeze_stage(size_t stage);
  size_t num_stages() const { return stages_.size(); }
  /// Width of a stage.
  static int64_t width(size_t stage);

 private:
  std::vector<std::vector<std::shared_ptr<Layer>>> stages_;
};

}  // namespace seg
