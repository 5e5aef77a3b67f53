/// What models that predict by logits share: whole images, sliding windows, augmentations.
#pragma once
#include "segcore/models/decode_head.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/ops/resize_argmax/resize_argmax.hpp"

namespace seg {

/// A model that makes logits of any size, from which those of the images are interpolated.
class LogitSegmentor : public Segmentor {
 public:
  torch::Tensor encode_decode(const torch::Tensor& images) override;
  torch::Tensor inference(const torch::Tensor& images) override;
  std::vector<torch::Tensor> predict(const ModelInput& input) override;
  torch::Tensor predict_windows(const ModelInput& input, Size2 crop, Size2 stride) override;
  std::vector<torch::Tensor> predict_tta(const std::vector<ModelInput>& augmented) override;
  std::vector<Prediction> predict_scores(const std::vector<ModelInput>& augmented) override;
  const DataPreProcessor& data_preprocessor() const override { return *data_preprocessor_; }

 protected:
  LogitSegmentor(const InitCfg& init_cfg, const std::optional<TestCfg>& test_cfg,
                 const std::optional<Spec<DataPreProcessor>>& data_preprocessor);
  /// Logits of any size, [N, out channels, h, w].
  virtual torch::Tensor logits(const torch::Tensor& images) = 0;
  /// What encode_decode and inference make of logits at the size of the images; classes are
  /// chosen, and averaged over augmentations, by the logits themselves.
  virtual torch::Tensor output(const torch::Tensor& logits) { return logits; }
  /// How resizing maps corners.
  virtual bool align_corners() const = 0;
  /// For one output channel: a pixel is of the class where its probability is above it.
  virtual double threshold() const = 0;
  const TestCfg& test_cfg() const { return test_cfg_; }

 private:
  torch::Tensor full_size_logits(const torch::Tensor& images);
  /// Logits at window positions, averaged where windows overlap; at the size of the images.
  torch::Tensor slide(const torch::Tensor& images);
  bool slides() const { return test_cfg_.mode == "slide"; }
  /// Logits of any size (whole) or of the images' (slide), and what becomes of each image's.
  std::vector<LogitRows> full_size_rows(const ModelInput& input);
  /// The same of several augmentations, by image.
  std::vector<std::vector<LogitRows>> rows_by_image(const std::vector<ModelInput>& augmented);
  LogitsGeometry geometry(const ModelInput& input, size_t i) const;

  TestCfg test_cfg_;
  std::unique_ptr<DataPreProcessor> data_preprocessor_;
};

}  // namespace seg
