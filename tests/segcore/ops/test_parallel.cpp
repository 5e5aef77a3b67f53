#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace seg {
namespace {

/// at::parallel_for is inline: whether it uses threads is decided by how this program is compiled.
TEST(ParallelLoops, UseTheThreadsThatTheyAreGiven) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "loops have one thread under the thread sanitizer";
#endif
  const int threads = at::get_num_threads();
  at::set_num_threads(2);
  std::atomic<int> inside = 0;
  std::atomic<bool> together = false;
  at::parallel_for(0, 2, 1, [&](int64_t, int64_t) {
    ++inside;
    // Each waits for the other.
    for (int i = 0; i < 1000 && !together; ++i) {
      if (inside == 2) together = true;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  at::set_num_threads(threads);
  EXPECT_TRUE(together);
}

}  // namespace
}  // namespace seg
