/// What the patches of a plain transformer and a pyramid of maps tell each other (ViT-Adapter, Chen
/// et al. 2022, arXiv:2205.08534, 3.3 and 3.4).
#pragma once
#include <memory>
#include <vector>

#include "segcore/models/backbones/vit_adapter_params.hpp"
#include "segcore/models/blocks/deformable_attention.hpp"
#include "segcore/models/nn/base_module.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/models/nn/norm.hpp"

namespace seg {

std::shared_ptr<Norm> adapter_norm(int64_t dims);

/// Maps of the pyramid as one sequence, and their sizes.
struct Pyramid {
  torch::Tensor tokens;  ///< [N, sum of h * w, C]
  std::vector<Size2> sizes;
};

/// Attention of one sequence to another: children `query_norm`, `feat_norm`, `attn`.
class CrossLayer : public BaseModule {
 public:
  CrossLayer(const AdapterParams& p, int64_t levels);

 protected:
  /// \return as the tokens of the query.
  torch::Tensor attend(const Pyramid& query, const Pyramid& values);

 private:
  std::shared_ptr<Norm> query_norm_, feat_norm_;
  std::shared_ptr<MultiScaleDeformableAttention> attn_;
};

/// Adds to patches what they find in the pyramid: parameter `gamma`.
class Injector final : public CrossLayer {
 public:
  explicit Injector(const AdapterParams& p);
  /// \return tokens of patches.
  torch::Tensor forward(const Pyramid& patches, const Pyramid& pyramid);

 private:
  torch::Tensor gamma_;
};

class PyramidFFN;

/// Adds to the pyramid what it finds in patches: children `ffn`, `ffn_norm`.
class Extractor final : public CrossLayer {
 public:
  explicit Extractor(const AdapterParams& p);
  Pyramid forward(const Pyramid& pyramid, const Pyramid& patches);

 private:
  std::shared_ptr<PyramidFFN> ffn_;  ///< may be null
  std::shared_ptr<Norm> ffn_norm_;
  std::shared_ptr<DropPath> drop_path_;
};

/// Children `injector`, `extractor`, `extra_extractors`.
class Interaction final : public BaseModule {
 public:
  /// \param extra  further extractors.
  Interaction(const AdapterParams& p, int64_t extra);
  std::shared_ptr<Injector> injector;
  std::vector<std::shared_ptr<Extractor>> extractors;
};

}  // namespace seg
