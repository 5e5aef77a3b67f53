/// Memory of tensors on a CPU that is used again.
#pragma once
#include <c10/core/Allocator.h>

#include <cstddef>
#include <map>
#include <mutex>
#include <set>
#include <vector>

namespace seg {

/// Keeps the pages of large blocks that were given back for others of any size: larger ones are
/// cut, and smaller ones joined, for which the system changes its tables of pages alone. What is
/// held never exceeds the peak in use. Pages come from the system and not from the C library, whose
/// heap large blocks fragment. Safe to use from several threads.
class CachingAllocator final : public c10::Allocator {
 public:
  /// Bytes from which blocks are kept; smaller ones are LibTorch's.
  static constexpr size_t kLeast = size_t{1} << 20;

  /// \param least  in place of kLeast.
  explicit CachingAllocator(size_t least = kLeast) : least_(least) {}
  ~CachingAllocator() override;
  c10::DataPtr allocate(size_t bytes) override;
  /// Of large and small blocks alike: oneDNN's have no other sign.
  c10::DeleterFnPtr raw_deleter() const override { return &give_back; }
  /// Frees what is kept.
  void clear();
  void copy_data(void* to, const void* from, size_t bytes) const override;

  struct Usage {
    size_t used = 0, kept = 0, most_used = 0;  ///< bytes
  };
  Usage usage() const;
  /// Counts the peak in use from now on.
  void forget_peak();

 private:
  struct Block {
    char* memory;
    size_t bytes;
  };
  class Leases;
  static void give_back(void* memory);

  Block take(size_t bytes);
  void put(Block block);
  /// A block of these, which are cleared if they could not be moved, and of fresh pages; null where
  /// there are none.
  static char* joined(std::vector<Block>& parts, size_t bytes);

  // Under the lock.
  using Kept = std::map<char*, size_t>;  ///< bytes by address, no two of them neighbours
  Kept::iterator smallest_with(size_t bytes);
  /// No longer kept; with a rest that is small.
  Block cut(Kept::iterator kept, size_t bytes);
  /// Adds the parts of a block that was joined of several, each of which moves by itself.
  void take_apart(const Block& block, std::vector<Block>& parts);
  void keep(Block block);
  void use(size_t bytes);

  const size_t least_;
  mutable std::mutex mutex_;
  Kept free_;
  std::set<char*> seams_;  ///< where blocks and parts of joined ones begin
  Usage usage_;
};

/// Makes LibTorch take memory from a CachingAllocator from now on; later calls do nothing. Address
/// sanitizers see nothing of memory that is kept: with them nothing is installed.
void install_caching_allocator();
/// What was installed; null: nothing.
CachingAllocator* installed_caching_allocator();

}  // namespace seg
