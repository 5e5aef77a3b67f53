/// Memory of OpenCV's matrices that is used again.
#pragma once
#include <opencv2/core/mat.hpp>

#include "segcore/memory/caching_allocator.hpp"

namespace seg {

/// Gives matrices the blocks of a CachingAllocator. Safe to use from several threads.
class MatAllocator final : public cv::MatAllocator {
 public:
  /// Bytes from which the C library would ask the system.
  static constexpr size_t kLeast = size_t{1} << 17;

  cv::UMatData* allocate(int dims, const int* sizes, int type, void* data, size_t* step,
                         cv::AccessFlag flags, cv::UMatUsageFlags usage) const override;
  bool allocate(cv::UMatData* data, cv::AccessFlag flags, cv::UMatUsageFlags usage) const override;
  void deallocate(cv::UMatData* data) const override;

  CachingAllocator::Usage usage() const { return blocks_.usage(); }

 private:
  mutable CachingAllocator blocks_{kLeast};
};

/// Makes matrices take memory from a MatAllocator from now on; later calls do nothing. Address
/// sanitizers see nothing of memory that is kept: with them nothing is installed.
void install_mat_allocator();

}  // namespace seg
