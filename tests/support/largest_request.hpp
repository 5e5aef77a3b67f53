/// Notes the largest request for heap memory. To be included by one file of a program alone, since
/// it replaces operator new.
#pragma once
#include <algorithm>
#include <cstdlib>
#include <new>

namespace seg::test {

/// In bytes, since it was last set to 0, by this thread.
inline thread_local size_t largest_request = 0;

/// What one request may be when a file of `size` bytes is read: a value of a few dozen bytes for
/// each byte of it.
inline size_t request_limit(size_t size) { return 128 * size + 65536; }

}  // namespace seg::test

void* operator new(size_t size, const std::nothrow_t&) noexcept {
  seg::test::largest_request = std::max(seg::test::largest_request, size);
  return std::malloc(size ? size : 1);
}
void* operator new(size_t size) {
  if (void* memory = operator new(size, std::nothrow)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
