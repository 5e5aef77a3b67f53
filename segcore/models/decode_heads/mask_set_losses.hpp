/// Losses of heads whose queries predict a class and a mask each: MaskFormer, Mask2Former, SAN.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "segcore/models/assigners/assigner.hpp"
#include "segcore/models/loss.hpp"
#include "segcore/models/losses/query_loss.hpp"
#include "segcore/models/nn/draws_random_numbers.hpp"

namespace seg {

/// What queries predict after one layer.
struct QueryOutput {
  torch::Tensor classes;  ///< [N, Q, classes + 1], before softmax
  torch::Tensor masks;    ///< [N, Q, h, w], before sigmoid
};

/// The sum over queries of class probability times mask probability, [N, classes, h, w].
torch::Tensor semantic_scores(const QueryOutput& output);

/// The head's own `train_cfg`.
struct MaskTrainCfg {
  Spec<Assigner> assigner;
  int64_t num_points = 12544;
  double oversample_ratio = 3;
  double importance_sample_ratio = 0.75;
  static Schema<MaskTrainCfg> schema();
};

/// The classes of one image, a mask each.
struct ImageMasks {
  torch::Tensor labels;  ///< int64 [G]
  torch::Tensor masks;   ///< floating [G, H, W]
};

/// Masks of matched queries and those of their classes, at the same pixels or points.
struct MaskPairs {
  torch::Tensor logits;  ///< [M, P]
  torch::Tensor truth;   ///< [M, P]
};

/// Where masks are compared.
class MaskComparison {
 public:
  virtual ~MaskComparison() = default;
  /// What an assigner compares in one image.
  /// \param classes  [Q, classes + 1]
  /// \param masks  [Q, h, w]
  virtual MatchInputs match_inputs(const torch::Tensor& classes, const torch::Tensor& masks,
                                   const ImageMasks& truth, const RandomSource& random) const = 0;
  /// \param masks  logits of matched queries, [M, h, w]
  /// \param truth  [M, H, W]
  virtual MaskPairs pairs_of(const torch::Tensor& masks, const torch::Tensor& truth,
                             const RandomSource& random) const = 0;
};

/// At every pixel of the labels; matched at the size of the predicted masks (MaskFormer).
std::unique_ptr<MaskComparison> compare_all_pixels();
/// At random points; where masks are matched, most are where they are least certain (Mask2Former).
std::unique_ptr<MaskComparison> compare_at_points(const MaskTrainCfg& cfg);

/// A term of the loss: of the queries' classes or of their masks.
struct MaskSetTerm {
  std::string name;  ///< in the log
  std::unique_ptr<QueryClassLoss> classes;
  std::unique_ptr<MaskLoss> masks;
};

/// Matches queries with the classes of each image and compares both. A GPU is waited for twice a
/// step: for the classes of the images, and for the costs of all layers and images.
class MaskSetLosses {
 public:
  struct Options {
    int64_t num_classes = 0;
    int64_t ignore_index = -100;
    /// What an image without classes adds to the count of masks that sums are divided by.
    int64_t count_of_empty = 1;
  };
  /// Replaces values by their means over all processes.
  using Average = std::function<void(at::Tensor&)>;

  MaskSetLosses(const Options& options, std::unique_ptr<Assigner> assigner,
                std::unique_ptr<MaskComparison> comparison, std::vector<MaskSetTerm> terms);

  /// The terms of each layer, by their names.
  /// \param layers  what the queries predict after each, for the same images.
  /// \param labels  int64 [N, H, W]
  /// \throws LabelError for a label that is neither a class nor ignored.
  std::vector<LossMap> operator()(const std::vector<QueryOutput>& layers,
                                  const torch::Tensor& labels, const Average& average,
                                  const RandomSource& random) const;

 private:
  /// Queries of an image and the classes that they stand for, as places in `ImageMasks`.
  struct Pairs {
    std::vector<int64_t> queries, classes;
  };
  /// The same on the device, int64 [M].
  struct DevicePairs {
    torch::Tensor queries, classes;
  };

  std::vector<ImageMasks> masks_of(const torch::Tensor& labels, at::ScalarType type) const;
  std::vector<std::vector<Pairs>> match(const std::vector<QueryOutput>& layers,
                                        const std::vector<ImageMasks>& truths,
                                        const RandomSource& random) const;
  LossMap layer_losses(const QueryOutput& output, const std::vector<ImageMasks>& truths,
                       const std::vector<DevicePairs>& pairs, double count,
                       const RandomSource& random) const;

  Options options_;
  std::unique_ptr<Assigner> assigner_;
  std::unique_ptr<MaskComparison> comparison_;
  std::vector<MaskSetTerm> terms_;
};

}  // namespace seg
