/// Memory in whole pages of the system.
#pragma once
#include <cstddef>

namespace seg {

/// Bytes for a block of at least as many: whole pages, large ones for blocks that are large
/// enough to waste little of the last one.
size_t whole_pages(size_t bytes);

/// Zeros, from the system and not from the C library, whose heap blocks of such sizes fragment.
/// \param bytes  as of whole_pages.
/// \return null where there is none.
char* fresh_pages(size_t bytes);

void free_pages(char* pages, size_t bytes);

/// Moves pages with what they hold to another address, in place of those that lie there: nothing is
/// copied or set to zero. Nothing lies at `from` any more.
/// \param bytes  whole pages of what was one block of fresh_pages, or one part that was moved:
/// before
///               Linux 6.17 the system moves no others.
/// \return false where the system has no more entries for it. The pages are at `from` still; what
///         lies at `to` is not known, and may be another thread's by now.
bool move_pages(char* from, size_t bytes, char* to);

/// Whether pages from here on can be large ones.
bool starts_large_page(const char* pages);

}  // namespace seg
