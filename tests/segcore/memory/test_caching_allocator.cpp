#include "segcore/memory/caching_allocator.hpp"

#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>

#include <cstring>
#include <thread>
#include <vector>

namespace seg {
namespace {

constexpr size_t kMB = size_t{1} << 20;

class CachingAllocatorTest : public ::testing::Test {
 protected:
  CachingAllocator allocator;
};

TEST_F(CachingAllocatorTest, UsesABlockAgainForOneOfAboutItsSize) {
  auto first = allocator.allocate(10 * kMB);
  void* const memory = first.get();
  std::memset(memory, 1, 10 * kMB);
  first.clear();
  EXPECT_EQ(allocator.usage().kept, 10 * kMB);
  auto smaller = allocator.allocate(9 * kMB);
  EXPECT_EQ(smaller.get(), memory);
  EXPECT_EQ(allocator.usage().kept, 0);
  const auto other = allocator.allocate(9 * kMB);
  EXPECT_NE(other.get(), memory);
  smaller.clear();
  const auto half = allocator.allocate(5 * kMB);
  EXPECT_EQ(allocator.usage().used, 14 * kMB) << "half of a block would lie idle";
}

TEST_F(CachingAllocatorTest, TakesTheBlockThatWastesLeast) {
  auto large = allocator.allocate(11 * kMB), small = allocator.allocate(10 * kMB);
  void* const expected = small.get();
  small.clear();
  large.clear();
  EXPECT_EQ(allocator.allocate(10 * kMB - 5).get(), expected);
}

TEST_F(CachingAllocatorTest, HoldsLittleMoreThanWasInUseAtOnce) {
  std::vector<c10::DataPtr> maps;
  for (size_t i = 0; i < 8; ++i) maps.push_back(allocator.allocate(4 * kMB));
  maps.clear();
  EXPECT_EQ(allocator.usage().kept, 32 * kMB);
  const auto another = allocator.allocate(10 * kMB);
  const auto usage = allocator.usage();
  EXPECT_EQ(usage.used, 10 * kMB);
  EXPECT_EQ(usage.kept, 24 * kMB) << "blocks are freed until the new one fits, but for an eighth";
  EXPECT_EQ(usage.most_used, 32 * kMB);
  allocator.clear();
  EXPECT_EQ(allocator.usage().kept, 0);
}

TEST_F(CachingAllocatorTest, LeavesSmallBlocksToTheOther) {
  auto small = allocator.allocate(CachingAllocator::kLeast - 1);
  ASSERT_NE(small.get(), nullptr);
  small.clear();
  EXPECT_EQ(allocator.usage().kept, 0);
  EXPECT_EQ(allocator.allocate(0).get(), c10::GetDefaultCPUAllocator()->allocate(0).get());
}

TEST_F(CachingAllocatorTest, TakesBackAddressesAlone) {
  for (const size_t bytes : {size_t{100}, 2 * kMB}) {
    void* const memory = allocator.raw_allocate(bytes);
    std::memset(memory, 1, bytes);
    allocator.raw_deallocate(memory);
  }
  EXPECT_EQ(allocator.usage().kept, 2 * kMB);
}

TEST_F(CachingAllocatorTest, ServesSeveralThreads) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        const size_t bytes = (1 + static_cast<size_t>(i + t) % 3) * kMB;
        const auto memory = allocator.allocate(bytes);
        auto* values = static_cast<unsigned char*>(memory.get());
        std::memset(values, t, bytes);
        EXPECT_EQ(values[bytes / 2], t);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(allocator.usage().used, 0);
}

}  // namespace
}  // namespace seg
