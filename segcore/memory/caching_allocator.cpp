#include "segcore/memory/caching_allocator.hpp"

#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "segcore/memory/pages.hpp"

namespace seg {
namespace {

/// When a smaller block is cut from a larger one, a rest of up to as much goes with it.
constexpr size_t kMostSlack = size_t{1} << 16;

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
    for (size_t found = 0; found < bytes && !free_.empty();) {
      const auto best =
          std::max_element(free_.begin(), free_.end(), [](const auto& a, const auto& b) {
            return std::pair(starts_large_page(a.first), a.second) <
                   std::pair(starts_large_page(b.first), b.second);
          });
      const Block part = cut(best, std::min(best->second, bytes - found));
      take_apart(part, parts);
      found += part.bytes;
    }
  }
  char* const memory = joined(parts, bytes);
  if (!memory) return {nullptr, bytes};
  const std::lock_guard<std::mutex> lock(mutex_);
  use(bytes);
  size_t end = 0;
  seams_.insert(memory);
  for (const Block& part : parts) {
    end += part.bytes;
    if (end < bytes) seams_.insert(memory + end);
  }
  return {memory, bytes};
}

void CachingAllocator::take_apart(const Block& block, std::vector<Block>& parts) {
  char* const end = block.memory + block.bytes;
  char* begin = block.memory;
  seams_.erase(begin);
  for (auto seam = seams_.upper_bound(begin); seam != seams_.end() && *seam < end;) {
    parts.push_back({begin, static_cast<size_t>(*seam - begin)});
    begin = *seam;
    seam = seams_.erase(seam);
  }
  parts.push_back({begin, static_cast<size_t>(end - begin)});
}

char* CachingAllocator::joined(std::vector<Block>& parts, size_t bytes) {
  char* const memory = fresh_pages(bytes);
  size_t done = 0;
  auto part = parts.begin();
  for (; memory && part != parts.end(); ++part) {
    // The last ones may have a rest that is small.
    const size_t wanted = std::min(part->bytes, bytes - done);
    if (wanted > 0 && !move_pages(part->memory, wanted, memory + done)) {
      free_pages(memory, done);
      free_pages(memory + done + wanted, bytes - done - wanted);
      break;
    }
    free_pages(part->memory + wanted, part->bytes - wanted);
    done += wanted;
  }
  if (memory && part == parts.end()) return memory;
  for (; part != parts.end(); ++part) free_pages(part->memory, part->bytes);
  parts.clear();
  return fresh_pages(bytes);
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
  if (const size_t rest = block.bytes - bytes; rest > kMostSlack) {
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
    for (const auto& [memory, bytes] : unwanted) {
      seams_.erase(seams_.lower_bound(memory), seams_.lower_bound(memory + bytes));
    }
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

void CachingAllocator::forget_peak() {
  const std::lock_guard<std::mutex> lock(mutex_);
  usage_.most_used = usage_.used;
}

void install_caching_allocator() {
#if !defined(__SANITIZE_ADDRESS__)
  // Never destroyed, as Leases.
  static auto* const allocator = new CachingAllocator;
  static const bool installed = (c10::SetCPUAllocator(allocator, /*priority=*/1), true);
  static_cast<void>(installed);
#endif
}

CachingAllocator* installed_caching_allocator() {
  return dynamic_cast<CachingAllocator*>(c10::GetCPUAllocator());
}

}  // namespace seg
