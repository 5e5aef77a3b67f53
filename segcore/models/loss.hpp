/// The interface of losses on logits.
#pragma once
#include <torch/nn/module.h>

#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "registry/registry.hpp"
#include "segcore/data/sample.hpp"

namespace seg {

/// Named scalars of a training step, in the order they were made ("decode.loss_ce",
/// "decode.acc_seg"). Those whose name contains "loss" are differentiated; accuracies are detached.
using LossMap = std::vector<std::pair<std::string, torch::Tensor>>;

/// The truth that a training step compares logits with, and what is known of the images.
struct Targets {
  torch::Tensor labels;  ///< int64 [N, H, W]; undefined where depth is learned
  torch::Tensor edges;   ///< int64 [N, H, W], 1 where classes meet; only for heads that learn them
  torch::Tensor depth;   ///< float [N, H, W], 0 where it is unknown; only where it is learned
  /// Height and width of each image before it was padded; empty: none was.
  std::vector<std::array<int64_t, 2>> img_shapes;
  std::vector<int64_t> categories;                 ///< as categories_of; empty: none is known
  std::vector<std::vector<int64_t>> label_values;  ///< as ModelInput's
  Targets(torch::Tensor l, torch::Tensor e = {},   // NOLINT: most have labels alone
          std::vector<std::array<int64_t, 2>> shapes = {})
      : labels(std::move(l)), edges(std::move(e)), img_shapes(std::move(shapes)) {}
  explicit Targets(const ModelInput& input)
      : labels(input.labels),
        edges(input.edges),
        depth(input.depth),
        categories(categories_of(input.metas)),
        label_values(input.label_values) {
    for (const auto& meta : input.metas) img_shapes.push_back(meta.img_shape);
  }
};

class ClassWeight;

/// Percent of the pixels that are right, a scalar.
/// \param right, valid  counts: of them, and of the pixels that are not ignored.
/// \param type  of the result: double or float.
torch::Tensor accuracy_percent(const torch::Tensor& right, const torch::Tensor& valid,
                               at::ScalarType type);

/// A loss with the accuracy of the same logits ("acc_seg"), undefined where the loss does not come
/// by it.
struct LossAndAccuracy {
  torch::Tensor loss, accuracy;
};

/// A training objective of a decode head.
class Loss : public torch::nn::Module {
 public:
  /// \param logits  float [N, C, H, W], already at the size of the labels.
  /// \param labels  int64 [N, H, W].
  /// \param weight  float [N, H, W] of a pixel sampler, or undefined.
  /// \param ignore_index  label without loss.
  /// \return a scalar, times the loss's own weight.
  virtual torch::Tensor forward(const torch::Tensor& logits, const torch::Tensor& labels,
                                const torch::Tensor& weight, int64_t ignore_index) = 0;
  /// `forward` without resizing the logits first, which takes less time and memory; nothing where
  /// the loss cannot.
  /// \param small  float [N, C, h, w], which are resized bilinearly.
  virtual std::optional<LossAndAccuracy> of_small(const torch::Tensor& small,
                                                  const torch::Tensor& labels,
                                                  const torch::Tensor& weight, int64_t ignore_index,
                                                  bool align_corners);
  /// Name in the log ("loss_ce"); losses of one name add up.
  virtual const std::string& loss_name() const = 0;

  /// Whether the loss is a sum over pixels, so that `per_pixel` can be called.
  virtual bool has_per_pixel() const { return false; }
  /// The loss of each pixel, float [N, H, W], times the loss's own weight: for samplers that rank
  /// pixels by loss. No gradient is taken.
  /// \param small  as of `of_small`.
  virtual torch::Tensor per_pixel(const torch::Tensor& small, const torch::Tensor& labels,
                                  int64_t ignore_index, bool align_corners = false);
  /// Its option `class_weight`; null where it has none.
  virtual ClassWeight* class_weight() { return nullptr; }
  /// \throws OptionError if an option does not fit logits with this number of channels.
  virtual void check_channels(int64_t channels) const { (void)channels; }
};

template <>
struct Category<Loss> {
  static constexpr std::string_view name = "loss";
  using Signature = std::shared_ptr<Loss>();
};

/// Builds a loss for logits with this number of channels.
/// \throws ConfigError if its options do not fit.
std::shared_ptr<Loss> build_loss(const Spec<Loss>& spec, int64_t channels);

}  // namespace seg
