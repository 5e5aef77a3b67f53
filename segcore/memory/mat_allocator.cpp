#include "segcore/memory/mat_allocator.hpp"

#include <c10/util/Exception.h>

#include <opencv2/core.hpp>

namespace seg {

cv::UMatData* MatAllocator::allocate(int dims, const int* sizes, int type, void* data, size_t* step,
                                     cv::AccessFlag flags, cv::UMatUsageFlags usage) const {
  size_t bytes = static_cast<size_t>(CV_ELEM_SIZE(type));
  for (int i = 0; i < dims; ++i) bytes *= static_cast<size_t>(sizes[i]);
  const cv::MatAllocator* standard = cv::Mat::getStdAllocator();
  if (data || bytes < kLeast)
    return standard->allocate(dims, sizes, type, data, step, flags, usage);
  c10::DataPtr block;
  try {
    block = blocks_.allocate(bytes);
  } catch (const c10::Error&) {
    CV_Error(cv::Error::StsNoMem, "no memory for a matrix");
  }
  // To OpenCV's own it is memory of the user's, whose steps it checks and which it does not free.
  auto stride = static_cast<size_t>(CV_ELEM_SIZE(type));
  for (int i = dims - 1; i >= 0 && step; --i) {
    step[i] = stride;
    stride *= static_cast<size_t>(sizes[i]);
  }
  cv::UMatData* out = standard->allocate(dims, sizes, type, block.get(), step, flags, usage);
  out->currAllocator = out->prevAllocator = this;
  block.release_context();
  return out;
}

bool MatAllocator::allocate(cv::UMatData* data, cv::AccessFlag, cv::UMatUsageFlags) const {
  return data != nullptr;
}

void MatAllocator::deallocate(cv::UMatData* data) const {
  if (!data) return;
  blocks_.raw_deallocate(data->origdata);
  data->origdata = nullptr;
  cv::Mat::getStdAllocator()->deallocate(data);
}

void install_mat_allocator() {
#if !defined(__SANITIZE_ADDRESS__)
  // Never destroyed: matrices may outlive the statics of a process.
  static auto* const allocator = new MatAllocator;
  static const bool installed = (cv::Mat::setDefaultAllocator(allocator), true);
  static_cast<void>(installed);
#endif
}

}  // namespace seg
