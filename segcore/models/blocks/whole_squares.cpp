#include "segcore/models/blocks/whole_squares.hpp"

#include "segcore/torch.hpp"

namespace seg {

Size2 whole_squares(const torch::Tensor& images, int64_t side, const std::string& model) {
  const Size2 size(images.size(2), images.size(3));
  if (size.h % side == 0 && size.w % side == 0) return {size.h / side, size.w / side};
  const auto padded = [side](int64_t n) { return (n + side - 1) / side * side; };
  throw DataError(text("images of ", size.h, "x", size.w, " do not fit ", model,
                       ": height and width must be multiples of ", side, ". Pad them to ",
                       padded(size.h), "x", padded(size.w),
                       ": for training set size of the data preprocessor (crop_size), for tests "
                       "its test_cfg: {size_divisor: ",
                       side, "}"));
}

}  // namespace seg
