/// Backbone, neck and heads as one model.
#pragma once
#include "segcore/models/decode_head.hpp"
#include "segcore/models/neck.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/ops/resize_argmax.hpp"

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
class EncoderDecoder : public Segmentor {
 public:
  using Params = EncoderDecoderParams;
  static Schema<Params> schema();
  explicit EncoderDecoder(const Params& p);

  std::vector<torch::Tensor> extract_feat(const torch::Tensor& images) override;
  std::vector<torch::Tensor> backbone_features(const torch::Tensor& images) override {
    return backbone_->forward(images);
  }
  torch::Tensor encode_decode(const torch::Tensor& images) override;
  LossMap loss(const torch::Tensor& images, const Targets& targets) override;
  torch::Tensor inference(const torch::Tensor& images) override;
  std::vector<torch::Tensor> predict(const ModelInput& input) override;
  std::vector<torch::Tensor> predict_tta(const std::vector<ModelInput>& augmented) override;
  const DataPreProcessor& data_preprocessor() const override { return *data_preprocessor_; }
  int64_t num_classes() const override { return last_head().num_classes(); }
  void init_weights() override;

 protected:
  /// \param cascade  the decode head is a list, each refining the one before.
  EncoderDecoder(const Params& p, bool cascade);

 private:
  DecodeHead& last_head() const { return *heads_.back(); }
  /// Logits of any size.
  torch::Tensor decode(const std::vector<torch::Tensor>& features, Size2 image);
  /// Logits at window positions, averaged where windows overlap; at the size of the images.
  torch::Tensor slide(const torch::Tensor& images);
  bool slides() const { return test_cfg_.mode == "slide"; }
  /// Logits of any size (whole) or of the images' (slide), and what becomes of each image's.
  std::vector<LogitRows> full_size_rows(const ModelInput& input);
  LogitsGeometry geometry(const ModelInput& input, size_t i) const;

  std::shared_ptr<Backbone> backbone_;
  std::shared_ptr<Neck> neck_;
  std::vector<std::shared_ptr<DecodeHead>> heads_;
  std::vector<std::shared_ptr<DecodeHead>> auxiliary_;
  bool cascade_, auxiliary_list_ = false;
  TestCfg test_cfg_;
  std::unique_ptr<DataPreProcessor> data_preprocessor_;
  std::optional<std::string> pretrained_;
};

}  // namespace seg
