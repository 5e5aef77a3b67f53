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

TEST_F(CachingAllocatorTest, CutsALargeBlockForSmallerOnes) {
  auto first = allocator.allocate(10 * kMB);
  auto* const memory = static_cast<char*>(first.get());
  std::memset(memory, 1, 10 * kMB);
  first.clear();
  EXPECT_EQ(allocator.usage().kept, 10 * kMB);
  auto front = allocator.allocate(7 * kMB), back = allocator.allocate(3 * kMB);
  EXPECT_EQ(front.get(), memory);
  EXPECT_EQ(back.get(), memory + 7 * kMB);
  EXPECT_EQ(allocator.usage().kept, 0);
  front.clear();
  back.clear();
  EXPECT_EQ(allocator.allocate(10 * kMB).get(), memory) << "what was cut is whole again";
}

TEST_F(CachingAllocatorTest, LeavesARestThatIsSmallWithItsBlock) {
  auto first = allocator.allocate(2 * kMB);
  first.clear();
  auto almost = allocator.allocate(2 * kMB - 4096);
  EXPECT_EQ(allocator.usage().used, 2 * kMB);
  almost.clear();
  EXPECT_EQ(allocator.usage().kept, 2 * kMB);
}

TEST_F(CachingAllocatorTest, TakesTheSmallestBlockThatIsLargeEnough) {
  auto large = allocator.allocate(11 * kMB), between = allocator.allocate(kMB),
       small = allocator.allocate(10 * kMB);
  void* const expected = small.get();
  small.clear();
  large.clear();
  EXPECT_EQ(allocator.allocate(10 * kMB - 5).get(), expected);
}

/// Blocks of ones of these sizes, of which every second one is given back, so that no two of them
/// are neighbours.
std::vector<c10::DataPtr> scattered(CachingAllocator& allocator, const std::vector<size_t>& sizes) {
  std::vector<c10::DataPtr> all;
  for (const size_t bytes : sizes) {
    all.push_back(allocator.allocate(bytes));
    std::memset(all.back().get(), 1, bytes);
  }
  for (size_t i = 0; i < all.size(); i += 2) all[i].clear();
  return all;
}

TEST_F(CachingAllocatorTest, MovesThePagesOfSmallBlocksTogether) {
  for (const size_t bytes : {9 * kMB, 40 * kMB}) {
    SCOPED_TRACE(bytes);
    const auto held = scattered(allocator, {bytes / 3, kMB, bytes / 2, kMB, bytes / 4, kMB});
    const auto before = allocator.usage();
    auto whole = allocator.allocate(bytes);
    EXPECT_EQ(allocator.usage().used + allocator.usage().kept, before.used + before.kept);
    EXPECT_EQ(allocator.usage().most_used, before.used + before.kept) << "no fresh pages";
    std::memset(whole.get(), 2, bytes);
    for (size_t i = 1; i < held.size(); i += 2) {
      const auto* values = static_cast<const char*>(held[i].get());
      EXPECT_EQ(values[0] + values[kMB - 1], 2) << "of a block in use";
    }
    // What was joined is one block, and is moved part by part into a larger one.
    whole.clear();
    const auto larger = allocator.allocate(3 * bytes);
    std::memset(larger.get(), 3, 3 * bytes);
    allocator.clear();
  }
}

TEST_F(CachingAllocatorTest, GivesBackTheSmallRestOfWhatItJoins) {
  const auto held = scattered(allocator, {3 * kMB, kMB, kMB, kMB});
  // Of two parts, the second of which is such a rest below.
  auto small = allocator.allocate(3 * kMB + 8192);
  const auto between = allocator.allocate(2 * kMB);
  auto large = allocator.allocate(5 * kMB);
  small.clear();
  large.clear();
  const auto both = allocator.allocate(8 * kMB);
  std::memset(both.get(), 2, 8 * kMB);
  EXPECT_EQ(allocator.usage().used, 12 * kMB) << "with the blocks in between";
  EXPECT_EQ(allocator.usage().kept, 0);
}

TEST_F(CachingAllocatorTest, HoldsWhatWasInUseAtOnce) {
  std::vector<c10::DataPtr> maps;
  for (size_t i = 0; i < 8; ++i) maps.push_back(allocator.allocate(4 * kMB));
  maps.clear();
  EXPECT_EQ(allocator.usage().kept, 32 * kMB);
  const auto another = allocator.allocate(10 * kMB);
  const auto usage = allocator.usage();
  EXPECT_EQ(usage.used, 10 * kMB);
  EXPECT_EQ(usage.kept, 22 * kMB);
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

/// Blocks that are joined and taken apart while other threads map memory at addresses that become
/// free.
TEST_F(CachingAllocatorTest, JoinsBlocksBesideOtherMappings) {
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      std::vector<std::pair<c10::DataPtr, size_t>> held;
      uint32_t random = t;
      for (int i = 0; i < 200; ++i) {
        random = random * 1664525 + 1013904223;
        if (t == 0 || held.size() > 5) {
          const size_t bytes = (1 + random % 7) * kMB + random / 7 % 64 * 4096;
          if (t > 0) {
            auto& [old, size] = held[random / 512 % held.size()];
            const auto* values = static_cast<const unsigned char*>(old.get());
            EXPECT_EQ(values[0], t);
            EXPECT_EQ(values[size - 1], t);
            std::swap(held.back(), held[random / 512 % held.size()]);
            held.pop_back();
            continue;
          }
          // Not of the allocator.
          const std::vector<char> other(bytes, 7);
          EXPECT_EQ(other[bytes - 1], 7);
          continue;
        }
        const size_t bytes = (1 + random % 23) * kMB + random / 23 % 64 * 4096;
        held.emplace_back(allocator.allocate(bytes), bytes);
        std::memset(held.back().first.get(), static_cast<int>(t), bytes);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(allocator.usage().used, 0);
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
