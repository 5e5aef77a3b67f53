/// Prediction by logits: of whole images, by sliding windows, over augmentations.
#pragma once
#include "segcore/models/decode_head.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/models/segmentors/strip_prediction.hpp"

namespace seg {

/// A model that makes logits of any size, from which those of the images are interpolated.
class LogitSegmentor : public Segmentor {
 public:
  torch::Tensor encode_decode(const torch::Tensor& images) override;
  torch::Tensor inference(const torch::Tensor& images) override;
  std::vector<Prediction> predict(const ModelInput& input) override;
  Prediction predict_windows(const ModelInput& input, Size2 crop, Size2 stride) override;
  std::vector<Prediction> predict_tta(const std::vector<ModelInput>& augmented) override;
  std::vector<Prediction> predict_scores(const std::vector<ModelInput>& augmented) override;
  const DataPreProcessor& data_preprocessor() const override { return *data_preprocessor_; }
  void set_memory_format(at::MemoryFormat format) override {
    data_preprocessor_->set_memory_format(format);
  }
  const TestCfg& test_cfg() const override { return test_cfg_; }

 protected:
  LogitSegmentor(const InitCfg& init_cfg, const std::optional<TestCfg>& test_cfg,
                 const std::optional<Spec<DataPreProcessor>>& data_preprocessor);
  /// Logits of any size, [N, out channels, h, w].
  /// \param categories  of the images, as categories_of; empty: none is known.
  virtual torch::Tensor logits(const torch::Tensor& images,
                               const std::vector<int64_t>& categories) = 0;
  /// Turns logits at the size of the images into the outputs of encode_decode and inference.
  /// Classes are chosen, and augmentations averaged, by the logits themselves.
  virtual torch::Tensor output(const torch::Tensor& logits) { return logits; }
  /// How resizing maps corners.
  virtual bool align_corners() const = 0;
  /// For one output channel: the probability above which a pixel belongs to the class.
  virtual double threshold() const = 0;

  /// The logits of each image, on their way to its original shape.
  std::vector<LogitRows> rows(const ModelInput& input);
  /// The same by a sliding window, whatever `test_cfg` has.
  std::vector<LogitRows> rows(const ModelInput& input, Size2 crop, Size2 stride);
  /// For each image the rows of its augmentations.
  std::vector<std::vector<LogitRows>> rows_by_image(const std::vector<ModelInput>& augmented);

 private:
  using Categories = std::vector<int64_t>;
  SlidingLogits slide(const torch::Tensor& images, const Categories& categories, Size2 crop,
                      Size2 stride, bool upwards = false);
  /// The same of whole images, [N, C, H, W].
  torch::Tensor slid_logits(const torch::Tensor& images, const Categories& categories, Size2 crop,
                            Size2 stride);
  /// \param raw  of any size.
  std::vector<LogitRows> rows_of(torch::Tensor raw, const ModelInput& input) const;
  /// Classes by a sliding window, strip by strip, so that the logits of no whole image are held.
  /// \param augmented  of the same images; those of one input are flipped vertically or not alike,
  ///                   and for several inputs there is one image.
  std::vector<torch::Tensor> predict_strips(const std::vector<ModelInput>& augmented, Size2 crop,
                                            Size2 stride);
  LogitsGeometry geometry(const ModelInput& input, size_t i) const;

  TestCfg test_cfg_;
  std::unique_ptr<DataPreProcessor> data_preprocessor_;
};

}  // namespace seg
