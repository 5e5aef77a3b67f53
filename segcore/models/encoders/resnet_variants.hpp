/// The ResNets of timm, torchvision and segmentation_models_pytorch, as data.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <utility>

namespace seg {

enum class ResNetStem {
  kPlain,  ///< one convolution of 7x7
  kDeep,   ///< three of 3x3
  kTiered  ///< the same, the first narrower
};

enum class ResNetAttention { kNone, kSqueeze, kEca, kCbam };

struct ResNetVariant {
  const char* name;
  std::array<int64_t, 4> blocks;
  bool bottleneck = true;
  int64_t groups = 1, width_per_group = 64;
  ResNetStem stem = ResNetStem::kPlain;
  int64_t stem_width = 32;  ///< of the first convolutions of a deep one, half of the last
  bool avg_down = false;    ///< shortcuts pool instead of striding
  ResNetAttention attention = ResNetAttention::kNone;
  /// Names and revisions of the weights of segmentation_models_pytorch; no name: it lacks the
  /// network.
  std::array<std::pair<const char*, const char*>, 4> smp = {};
  const char* timm_tags = nullptr;            ///< null: it lacks the network
  const char* torchvision_digests = nullptr;  ///< the same

  int64_t expansion() const { return bottleneck ? 4 : 1; }
  int64_t stem_channels() const { return stem == ResNetStem::kPlain ? 64 : 2 * stem_width; }
};

std::span<const ResNetVariant> resnet_variants();

}  // namespace seg
