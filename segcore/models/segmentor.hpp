/// The interface of whole models: what loops train and test.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "segcore/data/sample.hpp"
#include "segcore/models/data_preprocessor.hpp"
#include "segcore/models/loss.hpp"
#include "segcore/models/nn/base_module.hpp"
#include "segcore/models/test_cfg.hpp"

namespace seg {

/// The sum of all entries whose name contains "loss"; what is differentiated.
torch::Tensor total_loss(const LossMap& losses);

/// \throws DataError where a step has maps of depth and the model learns classes, or the reverse.
void check_targets(const Targets& targets, bool learns_depth);

/// The classes that one head of a model tells apart.
struct HeadClasses {
  int64_t count = 0;
  std::string option;  ///< of the model: "decode_head.num_classes"
};

/// What is known of a model before it is built.
struct SegmentorFacts {
  std::vector<HeadClasses> heads;  ///< the one that predicts comes last
  bool estimates_depth = false;    ///< predictions are maps of depth, not classes
};

/// A model for semantic segmentation, or one that estimates depth.
class Segmentor : public BaseModule {
 public:
  using BaseModule::BaseModule;
  /// Feature maps of backbone and neck: [N, C_i, H_i, W_i] each.
  virtual std::vector<torch::Tensor> extract_feat(const torch::Tensor& images) = 0;
  /// Feature maps of only the backbone.
  virtual std::vector<torch::Tensor> backbone_features(const torch::Tensor& images) {
    return extract_feat(images);
  }
  /// Logits at the size of the images, float [N, out_channels, H, W], before softmax.
  virtual torch::Tensor encode_decode(const torch::Tensor& images) = 0;
  /// Losses of one training step. images float [N, C, H, W].
  LossMap loss(const torch::Tensor& images, const Targets& targets);
  /// Logits as `test_cfg` asks for them, whole or by sliding window, at the size of the images.
  virtual torch::Tensor inference(const torch::Tensor& images) = 0;
  /// One prediction an image, without scores: inference, padding removed, flips undone, resized to
  /// the original shape; for classes argmax (or threshold for one output channel).
  virtual std::vector<Prediction> predict(const ModelInput& input) = 0;
  /// The same for one image, by this sliding window whatever `test_cfg` has.
  virtual Prediction predict_windows(const ModelInput& input, Size2 crop, Size2 stride) = 0;
  /// The same for several augmentations of one image each (test-time augmentation): the
  /// probabilities, or depths, at the original shape are averaged.
  /// \param augmented  one input for each augmentation, each of the same images in the same order.
  virtual std::vector<Prediction> predict_tta(const std::vector<ModelInput>& augmented) = 0;
  /// What predict_tta gives (predict for one input), with the scores of the classes.
  virtual std::vector<Prediction> predict_scores(const std::vector<ModelInput>& augmented) = 0;
  virtual const DataPreProcessor& data_preprocessor() const = 0;
  /// How the images that data_preprocessor makes lie in memory; convolutions keep it for their
  /// maps.
  virtual void set_memory_format(at::MemoryFormat format) = 0;
  /// 0 for a model that estimates depth.
  virtual int64_t num_classes() const = 0;
  /// Label without loss; -100, which no data set has, for none.
  virtual int64_t ignore_index() const = 0;
  /// How images are predicted.
  virtual const TestCfg& test_cfg() const = 0;
  /// Bands of the images that the model takes: as many as its first convolution. Nothing for a
  /// model without one.
  virtual std::optional<int64_t> bands() const;

  /// Stops the gradients of all parameters in whose names one of the regular expressions is found.
  /// Batch norms whose parameters are all frozen keep their running statistics in training.
  /// \throws OptionError ("") for an expression that is in no name, or where nothing is left
  ///         to train.
  void freeze(const std::vector<std::string>& expressions);
  void train(bool on = true) override;

 protected:
  virtual LossMap compute_loss(const torch::Tensor& images, const Targets& targets) = 0;

 private:
  std::vector<std::shared_ptr<torch::nn::Module>> frozen_norms_;
};

template <>
struct Category<Segmentor> {
  static constexpr std::string_view name = "segmentor";
  using Signature = std::shared_ptr<Segmentor>();
  using Facts = SegmentorFacts;
};

}  // namespace seg
