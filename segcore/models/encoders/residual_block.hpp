/// The residual block of all ResNets that are encoders.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "segcore/models/nn/conv.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/models/nn/norm.hpp"

namespace seg {

struct ResidualConv {
  int64_t in = 0, out = 0, kernel = 1, stride = 1, dilation = 1, groups = 1;
};

/// A convolution without bias that keeps the size but for its stride.
std::shared_ptr<Conv2d> residual_conv(const ResidualConv& c);

struct ResidualBlockParts {
  std::vector<ResidualConv> convs;
  std::string attention_name = "se";
  std::shared_ptr<Layer> attention;      ///< of what the convolutions give; may be null
  std::shared_ptr<Sequential> shortcut;  ///< null: the input itself
  double drop_path_rate = 0;
  bool zero_init = false;  ///< the last norm starts at zero
};

/// Convolutions with batch norms and ReLUs between: children `conv1`, `bn1`, `conv2`, ..., the
/// attention, `downsample`.
class ResidualBlock final : public Layer {
 public:
  explicit ResidualBlock(const ResidualBlockParts& parts);
  torch::Tensor forward(const torch::Tensor& x) override;
  void init_weights() override;

 private:
  std::vector<std::shared_ptr<Conv2d>> convs_;
  std::vector<std::shared_ptr<Norm>> norms_;
  std::shared_ptr<Layer> attention_;     ///< may be null
  std::shared_ptr<Layer> shortcut_;      ///< may be null
  std::shared_ptr<DropPath> drop_path_;  ///< may be null
  bool zero_init_;
};

}  // namespace seg
