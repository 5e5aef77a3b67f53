/// Memory of tensors on a CPU that is used again.
#pragma once
#include <c10/core/Allocator.h>

#include <cstddef>
#include <list>
#include <mutex>

namespace seg {

/// Keeps large blocks that tensors give back for others of about their size. In use and kept is
/// little more than was in use at once. Blocks come from the system and not from the C library,
/// whose heap they fragment: the memory of a training step is two thirds of what it is there. Safe
/// to use from several threads.
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

 private:
  struct Block {
    void* memory;
    size_t bytes;
  };
  class Leases;
  static void give_back(void* memory);

  Block take(size_t bytes);
  void put(Block block);
  /// The kept block that wastes least, removed; null memory where none fits.
  Block best_fit(size_t bytes);

  const size_t least_;
  mutable std::mutex mutex_;
  std::list<Block> free_;  ///< the one given back last at the end
  Usage usage_;
};

/// Makes LibTorch take memory from a CachingAllocator from now on; later calls do nothing. Address
/// sanitizers see nothing of memory that is kept: with them nothing is installed.
void install_caching_allocator();

}  // namespace seg
