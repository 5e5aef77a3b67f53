#include "segcore/memory/caching_allocator.hpp"

#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "segcore/memory/pages.hpp"

namespace seg {
namespace {

/// What is left of a block when a smaller one is cut from it, if it is not more, goes with it.
constexpr size_t kLeastRest = size_t{1} << 16;

}  // namespace

/// The large blocks in use, and whose they are: a deleter is told an address alone.
class CachingAllocator::Leases {
 public:
  struct Lease {
    CachingAllocator* owner = nullptr;
    size_t bytes = 0;
  };
  /// Never destroyed: tensors may outlive the statics of a process.
  static Leases& instance() {
    static auto* const leases = new Leases;
    return *leases;
  }
  void add(void* memory, Lease lease) {
    const std::lock_guard<std::mutex> lock(mutex_);
    leases_[memory] = lease;
  }
  /// \return no owner for what is no large block.
  Lease remove(void* memory) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto node = leases_.extract(memory);
    return node ? node.mapped() : Lease{};
  }

 private:
  std::mutex mutex_;
  std::unordered_map<void*, Lease> leases_;
};

CachingAllocator::~CachingAllocator() { clear(); }

c10::DataPtr CachingAllocator::allocate(size_t bytes) {
  if (bytes < least_) return c10::GetDefaultCPUAllocator()->allocate(bytes);
  const Block block = take(whole_pages(bytes));
  // LibTorch's own reports what it could not get.
  if (!block.memory) return c10::GetDefaultCPUAllocator()->allocate(bytes);
  Leases::instance().add(block.memory, {this, block.bytes});
  return {block.memory, block.memory, &give_back, c10::kCPU};
}

void CachingAllocator::give_back(void* memory) {
  if (const auto lease = Leases::instance().remove(memory); lease.owner) {
    lease.owner->put({static_cast<char*>(memory), lease.bytes});
  } else {
    c10::GetDefaultCPUAllocator()->raw_deleter()(memory);
  }
}

CachingAllocator::Block CachingAllocator::take(size_t bytes) {
  std::vector<Block> parts;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (const auto kept = smallest_with(bytes); kept != free_.end()) {
      const Block block = cut(kept, bytes);
      use(block.bytes);
      return block;
    }
    // All that are kept are smaller. Large pages first, which move as such.
    for (size_t found = 0; found < bytes && !free_.empty(); found += parts.back().bytes) {
      const auto best =
          std::max_element(free_.begin(), free_.end(), [](const auto& a, const auto& b) {
            return std::pair(starts_large_page(a.first), a.second) <
                   std::pair(starts_large_page(b.first), b.second);
          });
      parts.push_back(cut(best, std::min(best->second, bytes - found)));
    }
    use(bytes);
  }
  char* const memory = joined(parts, bytes);
  if (memory) return {memory, bytes};
  const std::lock_guard<std::mutex> lock(mutex_);
  usage_.used -= bytes;
  return {nullptr, bytes};
}

char* CachingAllocator::joined(const std::vector<Block>& parts, size_t bytes) {
  char* memory = fresh_pages(bytes);
  size_t done = 0;
  for (const Block& part : parts) {
    const size_t wanted = std::min(part.bytes, bytes - done);
    if (memory) {
      move_pages(part.memory, wanted, memory + done);
    } else {
      free_pages(part.memory, wanted);
    }
    if (wanted < part.bytes) free_pages(part.memory + wanted, part.bytes - wanted);
    done += wanted;
  }
  return memory ? memory : fresh_pages(bytes);
}

CachingAllocator::Kept::iterator CachingAllocator::smallest_with(size_t bytes) {
  auto best = free_.end();
  for (auto it = free_.begin(); it != free_.end(); ++it) {
    if (it->second >= bytes && (best == free_.end() || it->second < best->second)) best = it;
  }
  return best;
}

CachingAllocator::Block CachingAllocator::cut(Kept::iterator kept, size_t bytes) {
  Block block{kept->first, kept->second};
  free_.erase(kept);
  usage_.kept -= block.bytes;
  if (const size_t rest = block.bytes - bytes; rest > kLeastRest) {
    block.bytes = bytes;
    keep({block.memory + bytes, rest});
  }
  return block;
}

void CachingAllocator::keep(Block block) {
  usage_.kept += block.bytes;
  auto next = free_.lower_bound(block.memory);
  if (next != free_.end() && block.memory + block.bytes == next->first) {
    block.bytes += next->second;
    next = free_.erase(next);
  }
  if (next != free_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == block.memory) {
      before->second += block.bytes;
      return;
    }
  }
  free_.emplace(block.memory, block.bytes);
}

void CachingAllocator::use(size_t bytes) {
  usage_.used += bytes;
  usage_.most_used = std::max(usage_.most_used, usage_.used);
}

void CachingAllocator::put(Block block) {
  const std::lock_guard<std::mutex> lock(mutex_);
  usage_.used -= block.bytes;
  keep(block);
}

void CachingAllocator::clear() {
  Kept unwanted;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    unwanted.swap(free_);
    usage_.kept = 0;
  }
  for (const auto& [memory, bytes] : unwanted) free_pages(memory, bytes);
}

void CachingAllocator::copy_data(void* to, const void* from, size_t bytes) const {
  default_copy_data(to, from, bytes);
}

CachingAllocator::Usage CachingAllocator::usage() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return usage_;
}

void install_caching_allocator() {
#if !defined(__SANITIZE_ADDRESS__)
  // Never destroyed, as Leases.
  static auto* const allocator = new CachingAllocator;
  static const bool installed = (c10::SetCPUAllocator(allocator, /*priority=*/1), true);
  static_cast<void>(installed);
#endif
}

}  // namespace seg
