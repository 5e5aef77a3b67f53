/// Memory in whole pages of the system.
#pragma once
#include <cstddef>

namespace seg {

/// Bytes for a block of at least as many: whole pages, large ones for blocks that are so large that
/// the last one's rest is small.
size_t whole_pages(size_t bytes);

/// Zeros, from the system and not from the C library, whose heap blocks of such sizes fragment.
/// \param bytes  as of whole_pages.
/// \return null where there is none.
char* fresh_pages(size_t bytes);

void free_pages(char* pages, size_t bytes);

/// Moves pages with what they hold to another address, in place of those that lie there: nothing is
/// copied or set to zero. What lay at `from` is no longer memory of the process. Where the system
/// moves none, they are given back, and those at `to` stay.
/// \param bytes  of whole pages.
void move_pages(char* from, size_t bytes, char* to);

/// Whether pages from here on can be large ones.
bool starts_large_page(const char* pages);

}  // namespace seg
