/// The blocks of mobile networks under the tensor names of timm, torchvision and
/// efficientnet-pytorch.
#pragma once
#include <memory>
#include <optional>

#include "segcore/models/blocks/batch_norm_act.hpp"
#include "segcore/models/nn/conv.hpp"

namespace seg {

enum class MobileNames {
  kTimm,
  kTorchvision,
  kTorchvisionV2,       ///< of MobileNetV2, whose last convolution and norm are not grouped
  kEfficientNetPytorch  ///< of the package that segmentation_models_pytorch took over
};

enum class MobilePadding {
  kCentred,  ///< kernel / 2 at each side
  kSame,     ///< TensorFlow's: as much as the kernel needs, the odd pixel right and below
  kNominal   ///< TensorFlow's for images of one size, whatever the size of the image
};

struct MobileConvOptions {
  int64_t in = 0, out = 0, kernel = 1, stride = 1, dilation = 1, groups = 1;
  MobilePadding padding = MobilePadding::kCentred;
  int64_t nominal_size = 0;  ///< of the input, for kNominal
};

/// A convolution without bias.
std::shared_ptr<Conv2d> mobile_conv(const MobileConvOptions& options);

/// What the blocks of a network have in common.
struct MobileStyle {
  MobileNames names = MobileNames::kTimm;
  ActivationFn act = relu_of;
  ActivationFn squeeze_act = nullptr;  ///< null: that of the block
  ActivationFn gate = sigmoid_of;
  BatchNormParams norm;
  MobilePadding padding = MobilePadding::kCentred;
  std::optional<double> layer_scale = {};  ///< first value of the scales of kUniversal, kAttention
};

enum class MobileKind {
  kConv,       ///< convolution
  kSeparable,  ///< depthwise, 1x1
  kInverted,   ///< 1x1 that widens, depthwise, 1x1: MobileNetV2, arXiv:1801.04381
  kFused,      ///< convolution that widens, 1x1: EfficientNetV2, arXiv:2104.00298
  kUniversal,  ///< 1x1 that widens, 1x1, and depthwise ones before or between them:
               ///< MobileNetV4, arXiv:2404.10518
  kAttention   ///< attention whose heads share keys and values: MobileNetV4
};

struct MobileBlockOptions {
  MobileKind kind = MobileKind::kInverted;
  int64_t in = 0, middle = 0, out = 0;
  int64_t kernel = 3;        ///< kUniversal: 0 for none
  int64_t start_kernel = 0;  ///< of the depthwise convolution before the others of kUniversal
  int64_t stride = 1, dilation = 1;
  int64_t squeezed = 0;        ///< width of squeeze and excitation; 0: none
  ActivationFn act = nullptr;  ///< null: the network's
  bool acts_last = false;      ///< whether an activation follows the last convolution
  bool shortcut = false;
  double drop_path_rate = 0;
  int64_t heads = 0, key_dim = 0, key_stride = 1;  ///< of kAttention
  int64_t nominal_size = 0;                        ///< of the input, for MobilePadding::kNominal
};

std::shared_ptr<Layer> mobile_block(const MobileStyle& style, const MobileBlockOptions& options);

/// Attention of MobileNetV4: every head has its queries, all share keys and values, which are
/// taken at every key_stride-th pixel.
class MobileAttention final : public Layer {
 public:
  MobileAttention(const MobileStyle& style, const MobileBlockOptions& options);
  torch::Tensor forward(const torch::Tensor& x) override;
  /// Xavier's uniform, as timm.
  void init_weights() override;

 private:
  std::shared_ptr<Layer> branch(const std::string& name, const MobileStyle& style,
                                const MobileBlockOptions& o);

  int64_t heads_, key_dim_;
  std::shared_ptr<Layer> query_, key_, value_, output_;
};

}  // namespace seg
