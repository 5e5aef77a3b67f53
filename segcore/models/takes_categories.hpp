/// Backbones that use what is known of a whole image.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace seg {

/// A backbone whose maps depend on the category of the image (its kind of scene).
class TakesCategories {
 public:
  virtual ~TakesCategories() = default;
  /// As Backbone::forward.
  /// \param categories  of each image, -1 where it is unknown; empty: none is known.
  virtual std::vector<at::Tensor> forward_categories(const at::Tensor& images,
                                                     const std::vector<int64_t>& categories) = 0;
};

}  // namespace seg
