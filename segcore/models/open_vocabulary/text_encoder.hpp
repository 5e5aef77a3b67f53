/// The interface of encoders of class names.
#pragma once
#include <string>
#include <vector>

#include "segcore/models/nn/base_module.hpp"

namespace seg {

/// Embeds the names of classes in the space of image features.
class TextEncoder : public BaseModule {
 public:
  using BaseModule::BaseModule;
  /// \return [rows, width]: a row for each class and, where the encoder has one, for no class.
  virtual torch::Tensor class_embeddings() = 0;
  virtual const std::vector<std::string>& classes() const = 0;
  virtual int64_t width() const = 0;
  virtual bool has_background() const = 0;
};

template <>
struct Category<TextEncoder> {
  static constexpr std::string_view name = "text_encoder";
  using Signature = std::shared_ptr<TextEncoder>();
};

}  // namespace seg
