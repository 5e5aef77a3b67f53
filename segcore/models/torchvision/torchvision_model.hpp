/// The bases of torchvision's models for segmentation: a backbone and classifiers of its maps.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/segmentors/logit_segmentor.hpp"

namespace seg {

/// A backbone of a type of models, and the weights published for the whole model.
struct TorchvisionBackbone {
  const char* name;     ///< without "tv-"
  const char* address;  ///< of the weights COCO_WITH_VOC_LABELS_V1
  int64_t output_stride = 8;
  /// The layer whose output the auxiliary classifier takes, and LR-ASPP beside the last.
  const char* fine_layer = "layer3";
  int64_t fine_channels = 1024;
  const char* last_layer = "layer4";
  int64_t last_channels = 2048;
  bool bare_features = false;  ///< children of the classifier's child `features`
};

/// The one with this name.
const TorchvisionBackbone& torchvision_backbone(std::span<const TorchvisionBackbone> backbones,
                                                const std::string& name);

/// The options of torchvision's builders, and those that it leaves to its users.
struct TorchvisionParams {
  std::string backbone = "resnet50";
  int64_t num_classes = 21;
  std::optional<std::string> weights;
  std::optional<std::string> weights_backbone = "IMAGENET1K_V1";
  int64_t in_channels = 3;
  std::optional<OneOrMany<Spec<Loss>>> loss_decode;
  std::optional<int64_t> ignore_index = 255;
  std::optional<TestCfg> test_cfg;
  std::optional<Spec<DataPreProcessor>> data_preprocessor;
  InitCfg init_cfg;
};

/// TorchvisionParams of models that may have an auxiliary classifier.
struct TorchvisionAuxParams : TorchvisionParams {
  std::optional<bool> aux_loss;
  double aux_loss_weight = 0.5;  // of torchvision's script for training
  /// torchvision's published weights have the auxiliary classifier.
  bool has_aux() const { return aux_loss.value_or(weights.has_value()); }
};

/// The schema of a type of models.
template <class P>
Schema<P> torchvision_schema(const std::string& summary,
                             std::span<const TorchvisionBackbone> backbones) {
  std::vector<std::string> names;
  for (const auto& backbone : backbones) names.emplace_back(backbone.name);
  return Schema<P>(summary)
      .optional("backbone", &P::backbone, "the network that makes the maps", one_of(names))
      .optional("num_classes", &P::num_classes, "classes, without the ignored one", at_least(2))
      .optional("weights", &P::weights,
                "weights of the whole model: COCO_WITH_VOC_LABELS_V1, or a file; null: of the "
                "backbone alone")
      .optional("weights_backbone", &P::weights_backbone,
                "without weights: published weights of the backbone by name, or a file; null: "
                "random ones")
      .optional("in_channels", &P::in_channels, "bands of the images", at_least(1))
      .optional("loss_decode", &P::loss_decode,
                "training objective, or a list of them; null: cross entropy")
      .optional("ignore_index", &P::ignore_index, "label without loss; null: none")
      .optional("test_cfg", &P::test_cfg, "prediction of whole images or by a sliding window")
      .optional("data_preprocessor", &P::data_preprocessor, "normalises and pads; null: neither")
      .optional("init_cfg", &P::init_cfg, "initialisation, after the library's own")
      .accepted("train_cfg", "has no effect: it is for heads that sample points");
}

template <class P>
Schema<P>& add_aux_options(Schema<P>& schema) {
  return schema
      .optional("aux_loss", &P::aux_loss,
                "has an auxiliary classifier; null: with weights of the whole model")
      .optional("aux_loss_weight", &P::aux_loss_weight,
                "of the auxiliary classifier's loss in the sum", at_least(0.0));
}

class TorchvisionModel : public LogitSegmentor {
 public:
  static SegmentorFacts facts(const TorchvisionParams& p) {
    return {.heads = {{p.num_classes, "num_classes"}}};
  }
  /// The maps that the classifiers take, finest first.
  std::vector<torch::Tensor> extract_feat(const torch::Tensor& images) override;
  int64_t num_classes() const override { return num_classes_; }
  int64_t ignore_index() const override { return ignore_index_; }

 protected:
  LossMap compute_loss(const torch::Tensor& images, const Targets& targets) override;
  /// Builds the child `backbone`.
  /// \param fine  whether extract_feat gives the output of the fine layer, too.
  TorchvisionModel(const TorchvisionParams& p, const TorchvisionBackbone& backbone, bool fine);
  /// Logits of any size, of what extract_feat gives.
  virtual torch::Tensor classify(const std::vector<torch::Tensor>& maps) = 0;
  /// Adds those beside the classifier's.
  virtual void add_losses(LossMap& /*losses*/, const std::vector<torch::Tensor>& /*maps*/,
                          const torch::Tensor& /*labels*/) {}
  LossMap losses_named(const std::string& prefix, const torch::Tensor& logits,
                       const torch::Tensor& labels, double weight);

  torch::Tensor logits(const torch::Tensor& images, const std::vector<int64_t>&) override {
    return classify(extract_feat(images));
  }
  bool align_corners() const override { return false; }
  double threshold() const override { return 0.5; }

 private:
  int64_t num_classes_, ignore_index_;
  std::shared_ptr<Encoder> encoder_;
  std::vector<std::string> taken_;  ///< layers
  std::vector<std::shared_ptr<Loss>> losses_;
};

/// A classifier of the last map, and perhaps an auxiliary one of an earlier map.
class TorchvisionAuxModel : public TorchvisionModel {
 protected:
  TorchvisionAuxModel(const TorchvisionAuxParams& p, const TorchvisionBackbone& backbone);
  /// Models call it once, in their constructor.
  void set_classifier(const std::function<std::shared_ptr<Layer>(int64_t in)>& make);

  torch::Tensor classify(const std::vector<torch::Tensor>& maps) override {
    return classifier_->forward(maps.back());
  }
  void add_losses(LossMap& losses, const std::vector<torch::Tensor>& maps,
                  const torch::Tensor& labels) override;

 private:
  TorchvisionBackbone backbone_;
  bool has_aux_;
  double aux_loss_weight_;
  std::shared_ptr<Layer> classifier_;
  std::shared_ptr<Layer> aux_classifier_;  ///< may be null
};

/// A 3x3 convolution to a quarter of the width and one to the classes: the classifier of FCN, and
/// the auxiliary one of all models.
std::shared_ptr<Sequential> torchvision_fcn_head(int64_t in, int64_t num_classes);

}  // namespace seg
