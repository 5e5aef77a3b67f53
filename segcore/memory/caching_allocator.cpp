#include "segcore/memory/caching_allocator.hpp"

#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <unordered_map>

namespace seg {
namespace {

/// Pages of the system, and those of blocks that are so large that the last one's rest is small.
constexpr size_t kPage = size_t{1} << 12, kHugePage = size_t{1} << 21, kHugeBlock = 8 * kHugePage;

/// An eighth of the peak may be kept beyond it, and a block be up to half larger than what it is
/// given for. With less of both a training step asks the system twice as often.
constexpr size_t kSpare = 8, kWaste = 2;

size_t rounded(size_t bytes) {
  const size_t unit = bytes >= kHugeBlock ? kHugePage : kPage;
  return (bytes + unit - 1) / unit * unit;
}

/// From the system and not from the C library, whose heap blocks of such sizes fragment.
/// \return null where there is none.
void* fresh_memory(size_t bytes) {
  const bool huge = bytes >= kHugeBlock;
  const size_t mapped = huge ? bytes + kHugePage : bytes;
  void* memory = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  if (!huge) return memory;
  auto* begin = static_cast<char*>(memory);
  const size_t before = (kHugePage - reinterpret_cast<uintptr_t>(begin) % kHugePage) % kHugePage;
  if (before > 0) munmap(begin, before);
  if (before < kHugePage) munmap(begin + before + bytes, kHugePage - before);
  madvise(begin + before, bytes, MADV_HUGEPAGE);
  return begin + before;
}

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
  const Block block = take(rounded(bytes));
  // LibTorch's own reports what it could not get.
  if (!block.memory) return c10::GetDefaultCPUAllocator()->allocate(bytes);
  Leases::instance().add(block.memory, {this, block.bytes});
  return {block.memory, block.memory, &give_back, c10::kCPU};
}

void CachingAllocator::give_back(void* memory) {
  if (const auto lease = Leases::instance().remove(memory); lease.owner) {
    lease.owner->put({memory, lease.bytes});
  } else {
    c10::GetDefaultCPUAllocator()->raw_deleter()(memory);
  }
}

CachingAllocator::Block CachingAllocator::take(size_t bytes) {
  std::list<Block> unwanted;
  Block block{nullptr, bytes};
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (const Block kept = best_fit(bytes); kept.memory) {
      usage_.used += kept.bytes;
      usage_.most_used = std::max(usage_.most_used, usage_.used);
      return kept;
    }
    // Instead of those that were given back first.
    const size_t most = usage_.most_used + usage_.most_used / kSpare;
    while (!free_.empty() && usage_.used + usage_.kept + bytes > most) {
      usage_.kept -= free_.front().bytes;
      unwanted.splice(unwanted.end(), free_, free_.begin());
    }
    usage_.used += bytes;
    usage_.most_used = std::max(usage_.most_used, usage_.used);
  }
  for (const Block& old : unwanted) munmap(old.memory, old.bytes);
  block.memory = fresh_memory(bytes);
  if (!block.memory) {
    clear();
    block.memory = fresh_memory(bytes);
  }
  if (!block.memory) {
    const std::lock_guard<std::mutex> lock(mutex_);
    usage_.used -= bytes;
  }
  return block;
}

CachingAllocator::Block CachingAllocator::best_fit(size_t bytes) {
  auto best = free_.end();
  for (auto it = free_.begin(); it != free_.end(); ++it) {
    if (it->bytes < bytes || it->bytes > bytes + bytes / kWaste) continue;
    if (best == free_.end() || it->bytes <= best->bytes) best = it;
  }
  if (best == free_.end()) return {nullptr, bytes};
  const Block block = *best;
  usage_.kept -= block.bytes;
  free_.erase(best);
  return block;
}

void CachingAllocator::put(Block block) {
  const std::lock_guard<std::mutex> lock(mutex_);
  usage_.used -= block.bytes;
  usage_.kept += block.bytes;
  free_.push_back(block);
}

void CachingAllocator::clear() {
  std::list<Block> unwanted;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    unwanted.swap(free_);
    usage_.kept = 0;
  }
  for (const Block& block : unwanted) munmap(block.memory, block.bytes);
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
