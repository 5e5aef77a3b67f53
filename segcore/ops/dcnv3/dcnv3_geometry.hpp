/// The sizes of a call of dcnv3, for its kernels.
#pragma once
#include <cstdint>

namespace seg {

struct Dcnv3Geometry {
  int64_t images, height, width;  ///< of the map
  int64_t out_height, out_width;
  int64_t groups, channels;  ///< channels of one group
  int64_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w;
  /// Where the middle tap of the first output is, and how far before it the first tap.
  int64_t first_h, first_w, before_h, before_w;
  double offset_scale;
};

}  // namespace seg
