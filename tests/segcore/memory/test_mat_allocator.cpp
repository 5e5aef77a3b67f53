#include "segcore/memory/mat_allocator.hpp"

#include <gtest/gtest.h>

#include <opencv2/core.hpp>

namespace seg {
namespace {

class MatAllocatorTest : public ::testing::Test {
 protected:
  cv::Mat picture(int rows, int columns) {
    cv::Mat out;
    out.allocator = &allocator_;
    out.create(rows, columns, CV_8UC3);
    return out;
  }
  MatAllocator allocator_;
};

TEST_F(MatAllocatorTest, UsesTheMemoryOfAPictureAgain) {
  cv::Mat first = picture(300, 400);
  const void* memory = first.data;
  EXPECT_EQ(first.step, 3 * 400U);
  first.setTo(cv::Scalar::all(7));
  cv::Mat part = first(cv::Rect(10, 10, 20, 20));
  first.release();
  EXPECT_EQ(allocator_.usage().kept, 0U) << "a part of it is in use";
  part.release();
  EXPECT_EQ(picture(310, 385).data, memory);
}

TEST_F(MatAllocatorTest, LeavesSmallPicturesAndForeignMemoryAlone) {
  EXPECT_EQ(picture(10, 10).at<cv::Vec3b>(9, 9).rows, 3);
  std::vector<uint8_t> pixels(400 * 400 * 3, 5);
  const int sizes[] = {400, 400};
  size_t steps[] = {400 * 3, 3};
  cv::UMatData* foreign = allocator_.allocate(2, sizes, CV_8UC3, pixels.data(), steps,
                                              cv::ACCESS_RW, cv::USAGE_DEFAULT);
  EXPECT_EQ(foreign->data, pixels.data());
  foreign->currAllocator->deallocate(foreign);
  EXPECT_EQ(pixels[3], 5);
  EXPECT_EQ(allocator_.usage().most_used, 0U);
}

TEST_F(MatAllocatorTest, MatricesOfSeveralDimensionsAreWithoutGaps) {
  cv::Mat volume;
  volume.allocator = &allocator_;
  const int sizes[] = {30, 40, 50};
  volume.create(3, sizes, CV_32F);
  EXPECT_TRUE(volume.isContinuous());
  EXPECT_EQ(volume.step[0], 40 * 50 * sizeof(float));
  EXPECT_EQ(volume.step[2], sizeof(float));
}

TEST_F(MatAllocatorTest, LackOfMemoryIsOpenCvs) {
  EXPECT_THROW(picture(60'000'000, 60'000'000), cv::Exception);
}

}  // namespace
}  // namespace seg
