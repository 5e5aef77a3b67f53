#include "segcore/data/for_each_sample.hpp"

#include <ATen/Parallel.h>

#include <exception>
#include <mutex>

#include "registry/error.hpp"

namespace seg {

void for_each_sample(size_t count, bool skip_corrupt, const std::function<void(size_t)>& use) {
  std::mutex mutex;
  std::exception_ptr failure;
  at::parallel_for(0, static_cast<int64_t>(count), 1, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      try {
        use(i);
      } catch (const DataError&) {
        if (skip_corrupt) continue;
        const std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();
        return;
      }
    }
  });
  if (failure) std::rethrow_exception(failure);
}

}  // namespace seg
