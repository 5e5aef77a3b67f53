/// The plain transformers of timm, as data.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "segcore/models/blocks/mlp.hpp"
#include "segcore/models/nn/norm.hpp"

namespace seg {

enum class VitFamily { kViT, kDeiT, kDeiT3, kDINOv2, kDINOv3 };

/// Papers of the networks, and of their weights.
const char* source_of(VitFamily family);

struct VitVariant {
  std::string name;  ///< timm's
  std::string summary;
  VitFamily family = VitFamily::kViT;
  int64_t patch = 16;
  int64_t image = 224;  ///< side of the images of the position embeddings
  int64_t dims = 0, blocks = 0, heads = 0;
  int64_t hidden = 0;  ///< width of feed-forward layers
  MlpOptions::Kind mlp = MlpOptions::Kind::kPlain;
  int64_t registers = 0;
  bool qkv_bias = false;  ///< DINOv3: biases of queries and values; others have all
  std::vector<std::string> tags = {};

  bool rotary() const { return family == VitFamily::kDINOv3; }
  /// Tokens before those of the patches: the class token and registers.
  int64_t front() const { return 1 + (rotary() ? 4 : registers); }
  /// Those of them that have position embeddings.
  int64_t embedded_front() const { return family == VitFamily::kDeiT3 || registers > 0 ? 0 : 1; }
  /// First value of the scales of blocks; 0: they have none.
  double scale() const;
  std::shared_ptr<Norm> norm() const;
};

std::vector<VitVariant> vit_variants();

}  // namespace seg
