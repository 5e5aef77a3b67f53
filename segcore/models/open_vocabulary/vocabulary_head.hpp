/// The interface of heads that classify by text.
#pragma once
#include <vector>

#include "segcore/models/backbone.hpp"
#include "segcore/models/loss.hpp"
#include "segcore/models/open_vocabulary/text_encoder.hpp"

namespace seg {

struct VocabularyInputs {
  torch::Tensor images;                 ///< [N, bands, H, W]
  std::vector<torch::Tensor> features;  ///< of the image encoder, a class token after each map
  torch::Tensor classes;                ///< embeddings, [classes + 1, width]; the last: no class
};

/// What is known of a head before it is built.
struct VocabularyHeadFacts {
  int64_t num_classes = 0;
};

/// Compares parts of an image with the embeddings of classes.
class VocabularyHead : public BaseModule {
 public:
  using BaseModule::BaseModule;
  /// Scores at the size of the images, [N, classes, H, W].
  virtual torch::Tensor predict(const VocabularyInputs& inputs) = 0;
  virtual LossMap loss(const VocabularyInputs& inputs, const Targets& targets) = 0;
  virtual int64_t num_classes() const = 0;
  virtual int64_t ignore_index() const = 0;
  virtual bool align_corners() const = 0;
};

template <>
struct Category<VocabularyHead> {
  static constexpr std::string_view name = "vocabulary_head";
  /// \param inputs  what the image encoder gives; \param text  gives the classes.
  using Signature = std::shared_ptr<VocabularyHead>(const std::vector<FeatureInfo>& inputs,
                                                    const TextEncoder& text);
  using Facts = VocabularyHeadFacts;
};

}  // namespace seg
