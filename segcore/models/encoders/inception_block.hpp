/// The blocks of all Inception networks: branches side by side, whose results are joined.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "segcore/models/nn/conv.hpp"
#include "segcore/models/nn/norm.hpp"

namespace seg {

struct InceptionConv {
  int64_t out = 0;
  Size2 kernel = 1;
  int64_t stride = 1;
  bool padded = true;  ///< keeps the size but for its stride; else as many pixels as fit
};

/// A convolution of a branch, or a pooling.
struct InceptionStep {
  InceptionConv conv;
  std::function<torch::Tensor(const torch::Tensor&)> pool = {};  ///< empty: the convolution
  std::string name = {};  ///< below the block; several of a branch usually "branch1.0"
  /// Takes what the step before took, and its result stands beside the result of that step.
  bool beside = false;
};

InceptionStep inception_conv(int64_t out, Size2 kernel = 1, int64_t stride = 1, bool padded = true);
InceptionStep inception_max_pool(int64_t stride, int64_t padding, bool ceil_mode = false);
/// Maxima over 3x3 beside convolutions of stride 2 that pad: of odd sides as many rows and columns
/// as these have, where the original, which rounds down there, cannot join them.
InceptionStep inception_halving_max_pool();
/// Over 3x3 pixels. \param counts_padding  as zeros; else the mean is that of the pixels inside.
InceptionStep inception_average_pool(bool counts_padding);

using InceptionBranch = std::vector<InceptionStep>;
/// Names the steps "branch", or "branch.0", "branch.1", ... of several.
InceptionBranch inception_branch(const std::string& name, InceptionBranch steps);

/// Convolution, batch norm and ReLU: children `conv`, `bn`.
std::shared_ptr<Layer> inception_unit(int64_t in, const InceptionConv& conv);
/// The same with a bias, and children `<name>`, `<name>_bn`.
std::shared_ptr<Layer> biased_inception_unit(int64_t in, const InceptionConv& conv,
                                             const std::string& name);

struct InceptionBlockOptions {
  std::vector<InceptionBranch> branches;
  /// The layers are children `<step>`, `<step>_bn` of the block, as biased_inception_unit has them.
  bool biased = false;
  /// Of Inception-ResNet: a convolution `conv2d` of the joined branches, times this, is added to
  /// the input. 0: none.
  double residual_scale = 0;
  bool residual_relu = true;
};

class InceptionBlock final : public Layer {
 public:
  InceptionBlock(int64_t in, const InceptionBlockOptions& options);
  torch::Tensor forward(const torch::Tensor& x) override;
  int64_t out_channels() const { return out_channels_; }

 private:
  struct Step {
    std::function<torch::Tensor(const torch::Tensor&)> run;
    bool beside;
  };
  Step make_step(int64_t in, const InceptionStep& step, bool biased);

  std::vector<std::vector<Step>> branches_;
  int64_t out_channels_ = 0;
  double residual_scale_;
  bool residual_relu_;
  std::shared_ptr<Conv2d> conv2d_;  ///< null without a residual
};

}  // namespace seg
