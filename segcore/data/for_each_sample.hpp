/// What is counted over all samples of a data set.
#pragma once
#include <cstddef>
#include <functional>

namespace seg {

/// Calls `use(i)` for each i below `count`, on the operators' threads, in any order.
///
/// \throws DataError the first that a call throws, when all threads have ended; none with
///         `skip_corrupt`: such samples are left out.
void for_each_sample(size_t count, bool skip_corrupt, const std::function<void(size_t)>& use);

}  // namespace seg
