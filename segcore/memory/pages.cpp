#include "segcore/memory/pages.hpp"

#include <sys/mman.h>

#include <cstdint>

namespace seg {
namespace {

constexpr size_t kPage = size_t{1} << 12, kLargePage = size_t{1} << 21;
/// Bytes from which blocks have large pages.
constexpr size_t kLargeBlock = 8 * kLargePage;

}  // namespace

size_t whole_pages(size_t bytes) {
  const size_t page = bytes >= kLargeBlock ? kLargePage : kPage;
  return (bytes + page - 1) / page * page;
}

char* fresh_pages(size_t bytes) {
  const bool large = bytes >= kLargeBlock;
  const size_t mapped = large ? bytes + kLargePage : bytes;
  void* memory = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  auto* begin = static_cast<char*>(memory);
  if (!large) return begin;
  const size_t before = (kLargePage - reinterpret_cast<uintptr_t>(begin) % kLargePage) % kLargePage;
  if (before > 0) munmap(begin, before);
  if (before < kLargePage) munmap(begin + before + bytes, kLargePage - before);
  madvise(begin + before, bytes, MADV_HUGEPAGE);
  return begin + before;
}

void free_pages(char* pages, size_t bytes) {
  if (bytes > 0) munmap(pages, bytes);
}

bool move_pages(char* from, size_t bytes, char* to) {
  return mremap(from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to) != MAP_FAILED;
}

bool starts_large_page(const char* pages) {
  return reinterpret_cast<uintptr_t>(pages) % kLargePage == 0;
}

}  // namespace seg
