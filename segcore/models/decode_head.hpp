/// The base of all heads: choosing the feature maps, classifying pixels, losses and prediction.
#pragma once
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "segcore/models/backbone.hpp"
#include "segcore/models/loss.hpp"
#include "segcore/models/nn/activation.hpp"
#include "segcore/models/nn/conv.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/models/nn/norm.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/models/pixel_sampler.hpp"
#include "segcore/models/test_cfg.hpp"

namespace seg {

/// Adds a scalar to a map; losses of one name are summed.
void add_loss(LossMap& losses, const std::string& name, const torch::Tensor& value);

/// Builds the losses of an option `loss_decode` for logits with this number of channels, as
/// children of `parent`.
std::vector<std::shared_ptr<Loss>> register_losses(torch::nn::Module& parent,
                                                   const OneOrMany<Spec<Loss>>& option,
                                                   int64_t channels);
/// Losses and accuracy ("acc_seg") of logits [N, C, h, w], which are resized to the labels only
/// where a loss cannot do without. \param sampler  chooses the pixels to learn from; null: all.
LossMap losses_of(const std::vector<std::shared_ptr<Loss>>& losses, const PixelSampler* sampler,
                  const torch::Tensor& logits, const torch::Tensor& labels, int64_t ignore_index,
                  bool align_corners);

/// The options of every head. A head's own struct derives from it and includes base_schema(); it
/// changes defaults in its constructor or by initialisers.
struct DecodeHeadParams {
  std::optional<std::variant<int64_t, std::vector<int64_t>>> in_channels;
  int64_t channels = 0;
  int64_t num_classes = 0;
  std::optional<int64_t> out_channels;
  std::optional<double> threshold;
  double dropout_ratio = 0.1;
  ConvCfg conv_cfg;
  NormCfg norm_cfg;
  ActCfg act_cfg = relu_cfg();
  std::variant<int64_t, std::vector<int64_t>> in_index = int64_t{-1};
  std::optional<std::string> input_transform;
  OneOrMany<Spec<Loss>> loss_decode = default_loss();
  std::optional<int64_t> ignore_index = 255;
  std::optional<Spec<PixelSampler>> sampler;
  bool align_corners = false;
  InitCfg init_cfg = init_cfg_of("{type: Normal, std: 0.01, override: {name: conv_seg}}");

  static OneOrMany<Spec<Loss>> default_loss();
};

/// The model's `train_cfg`. Its options are for heads that sample points.
struct TrainCfg {
  int64_t num_points = 2048;
  double oversample_ratio = 3;
  double importance_sample_ratio = 0.75;
  static Schema<TrainCfg> schema();
};

/// What is known of a head before it is built.
struct DecodeHeadFacts {
  /// Of the data set; 0 for a head that learns from other labels, such as boundaries or depth.
  int64_t num_classes = 0;
  std::string option = "num_classes";  ///< that gives them
};

/// Makes scores per pixel from feature maps.
class DecodeHead : public BaseModule {
 public:
  /// The schema of DecodeHeadParams, for `.include(DecodeHead::base_schema())`.
  /// \param channels_required  false if the head's struct has a default.
  static Schema<DecodeHeadParams> base_schema(bool channels_required = true);

  /// \param inputs  all maps that backbone and neck give; `in_index` chooses among them. Class
  ///                tokens between them are not counted.
  /// \throws OptionError if `in_channels` is given and differs from the width of the chosen maps.
  DecodeHead(const DecodeHeadParams& p, const std::vector<FeatureInfo>& inputs);

  /// \param features  the maps of `inputs`, [N, C_i, H_i, W_i].
  /// \return logits [N, out_channels, h, w], not resized.
  virtual torch::Tensor forward(const std::vector<torch::Tensor>& features) = 0;
  /// Losses and accuracy of one training step, without prefix.
  virtual LossMap loss(const std::vector<torch::Tensor>& features, const Targets& targets);
  /// Logits for prediction, of any size: the caller resizes them to the image.
  /// \param image  height and width of the image, for heads that need it.
  virtual torch::Tensor predict(const std::vector<torch::Tensor>& features, Size2 image);
  /// The map before the classifier, [N, channels, h, w], for heads built on another one.
  /// \throws Error for heads without one.
  virtual torch::Tensor forward_feature(const std::vector<torch::Tensor>& features);
  /// Dropout and the last 1x1 convolution.
  torch::Tensor cls_seg(const torch::Tensor& x);
  /// Losses of `loss_decode` and the accuracy: resizes the logits to the labels, samples pixels.
  LossMap loss_by_feat(const torch::Tensor& logits, const torch::Tensor& labels);
  const std::shared_ptr<Conv2d>& conv_seg() const { return conv_seg_; }  ///< may be null
  /// Whether, in training, `loss` is `loss_by_feat` of what `forward` gives, and another `forward`
  /// would give the same: then a cascade needs one of them.
  bool repeats_output() const;
  /// Takes the model's train_cfg and test_cfg; called once, after construction.
  virtual void configure(const TrainCfg&, const TestCfg&) {}

  /// Whether its outputs are depth, one channel, instead of logits of classes.
  virtual bool estimates_depth() const { return false; }

  static DecodeHeadFacts facts(const DecodeHeadParams& p) { return {.num_classes = p.num_classes}; }
  int64_t num_classes() const { return params_.num_classes; }
  int64_t out_channels() const { return out_channels_; }
  bool align_corners() const { return params_.align_corners; }
  /// With one output channel: probability above which a pixel is of the class.
  double threshold() const { return threshold_; }
  /// Label without loss; -100, which no data set has, for none.
  int64_t ignore_index() const { return ignore_index_; }

 protected:
  /// Whether `loss` is `loss_by_feat` of what `forward` gives.
  virtual bool learns_from_output() const { return false; }
  /// The maps that `in_index` chooses; one, resized and joined, for "resize_concat".
  std::vector<torch::Tensor> select(const std::vector<torch::Tensor>& features) const;
  /// The same, neither resized nor joined.
  std::vector<torch::Tensor> chosen(const std::vector<torch::Tensor>& features) const;
  /// The one map of a head without "multiple_select".
  torch::Tensor select_one(const std::vector<torch::Tensor>& features) const;
  /// Widths and strides of the maps that select() returns, in its order.
  const std::vector<FeatureInfo>& inputs() const { return inputs_; }
  /// Width of the map that select_one() returns.
  int64_t in_channels() const;
  const DecodeHeadParams& params() const { return params_; }
  /// For heads whose classifier is another module: `conv_seg` is removed.
  void remove_conv_seg();

  std::vector<std::shared_ptr<Loss>> losses_;
  std::shared_ptr<Conv2d> conv_seg_;
  std::shared_ptr<Dropout2d> dropout_;  ///< may be null

 private:
  /// Sets indices_ and inputs_ by in_index, in_channels and input_transform.
  /// \return the option that does not fit the maps, if any.
  std::optional<OptionError> choose_inputs(const std::vector<FeatureInfo>& inputs);
  void build_sampler(const Spec<PixelSampler>& spec);

  DecodeHeadParams params_;
  std::vector<int64_t> indices_;  ///< of the chosen maps, among all that the head is given
  std::vector<FeatureInfo> inputs_;
  int64_t out_channels_ = 0;
  double threshold_ = 0;
  int64_t ignore_index_;
  std::unique_ptr<PixelSampler> sampler_;
};

template <>
struct Category<DecodeHead> {
  static constexpr std::string_view name = "decode_head";
  using Signature = std::shared_ptr<DecodeHead>(const std::vector<FeatureInfo>& inputs);
  using Facts = DecodeHeadFacts;
};

/// A head that refines the output of the one before it (OCR, PointRend, K-Net's stages).
class CascadeDecodeHead : public DecodeHead {
 public:
  using DecodeHead::DecodeHead;
  virtual torch::Tensor forward(const std::vector<torch::Tensor>& features,
                                const torch::Tensor& previous) = 0;
  virtual LossMap loss(const std::vector<torch::Tensor>& features, const torch::Tensor& previous,
                       const Targets& targets);
  virtual torch::Tensor predict(const std::vector<torch::Tensor>& features,
                                const torch::Tensor& previous, Size2 image);
  /// Throws: a head of a cascade needs the output of the head before it.
  torch::Tensor forward(const std::vector<torch::Tensor>& features) final;
  using DecodeHead::loss;
  using DecodeHead::predict;
};

/// Percent of the pixels that are not ignored whose best class is the label's; a scalar.
torch::Tensor pixel_accuracy(const torch::Tensor& logits, const torch::Tensor& labels,
                             int64_t ignore_index);

}  // namespace seg
