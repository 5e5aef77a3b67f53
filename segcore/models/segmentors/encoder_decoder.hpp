/// Backbone, neck and heads as one model.
#pragma once
#include "segcore/models/neck.hpp"
#include "segcore/models/segmentors/logit_segmentor.hpp"
#include "segcore/models/takes_categories.hpp"

namespace seg {

struct EncoderDecoderParams {
  Spec<Backbone> backbone;
  std::optional<Spec<Neck>> neck;
  OneOrMany<Spec<DecodeHead>> decode_head;
  std::optional<OneOrMany<Spec<DecodeHead>>> auxiliary_head;
  std::optional<TrainCfg> train_cfg;
  std::optional<TestCfg> test_cfg;
  std::optional<Spec<DataPreProcessor>> data_preprocessor;
  std::optional<std::string> pretrained;
  InitCfg init_cfg;
};

struct CascadeEncoderDecoderParams : EncoderDecoderParams {
  int64_t num_stages = 0;
};

/// A backbone, an optional neck, a decode head and auxiliary heads for training.
class EncoderDecoder : public LogitSegmentor {
 public:
  using Params = EncoderDecoderParams;
  static Schema<Params> schema();
  static SegmentorFacts facts(const Params& p);
  explicit EncoderDecoder(const Params& p);

  std::vector<torch::Tensor> extract_feat(const torch::Tensor& images) override;
  std::vector<torch::Tensor> backbone_features(const torch::Tensor& images) override {
    return backbone_->forward(images);
  }
  int64_t num_classes() const override { return last_head().num_classes(); }
  int64_t ignore_index() const override { return last_head().ignore_index(); }

 protected:
  LossMap compute_loss(const torch::Tensor& images, const Targets& targets) override;
  enum class Kind {
    kPlain,
    kCascade,  ///< the decode head is a list, each refining the one before
    kDepth     ///< heads estimate depth
  };
  EncoderDecoder(const Params& p, Kind kind);
  torch::Tensor logits(const torch::Tensor& images,
                       const std::vector<int64_t>& categories) override;
  bool align_corners() const override { return last_head().align_corners(); }
  double threshold() const override { return last_head().threshold(); }
  DecodeHead& last_head() const { return *heads_.back(); }

 private:
  void check_heads(const Params& p) const;
  std::vector<torch::Tensor> features(const torch::Tensor& images,
                                      const std::vector<int64_t>& categories);

  std::shared_ptr<Backbone> backbone_;
  TakesCategories* by_category_ = nullptr;  ///< the backbone, where it uses them
  std::shared_ptr<Neck> neck_;
  std::vector<std::shared_ptr<DecodeHead>> heads_;
  std::vector<std::shared_ptr<DecodeHead>> auxiliary_;
  Kind kind_;
  bool auxiliary_list_ = false;
};

}  // namespace seg
