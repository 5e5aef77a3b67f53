#include "segcore/data/transforms/tensor_image.hpp"

#include <ATen/ATen.h>

#include <cstring>
#include <opencv2/core.hpp>

#include "registry/error.hpp"

namespace seg {

cv::Mat image_of_tensor(const at::Tensor& array, const std::string& path) {
  const bool bands = array.dim() == 3;
  if ((array.dim() != 2 && !bands) || array.numel() == 0 || (bands && array.size(2) > CV_CN_MAX)) {
    throw DataError(text(path,
                         ": an image has the shape [height, width] or [height, width, bands], "
                         "this array has [",
                         join(array.sizes().vec(), ", "), "]"));
  }
  int depth = CV_32F;
  if (array.scalar_type() == at::kByte || array.scalar_type() == at::kBool) depth = CV_8U;
  if (array.scalar_type() == at::kUInt16) depth = CV_16U;
  const at::Tensor values = (depth == CV_8U    ? array.to(at::kByte)
                             : depth == CV_16U ? array
                                               : array.to(at::kFloat))
                                .contiguous();
  cv::Mat out(static_cast<int>(array.size(0)), static_cast<int>(array.size(1)),
              CV_MAKETYPE(depth, bands ? static_cast<int>(array.size(2)) : 1));
  std::memcpy(out.data, values.const_data_ptr(), values.nbytes());
  return out;
}

}  // namespace seg
