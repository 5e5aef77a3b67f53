/// Damages the bytes of a file as disks, cut transfers and malice do.
#pragma once
#include <algorithm>
#include <random>
#include <string>

namespace seg::test {

/// Flips bytes, cuts, repeats, and enlarges what may be a length.
inline std::string mutated(std::string bytes, std::mt19937& random) {
  auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  const size_t changes = 1 + below(4);
  for (size_t i = 0; i < changes && !bytes.empty(); ++i) {
    const size_t at = below(bytes.size());
    switch (below(6)) {
      case 0:
        bytes[at] = static_cast<char>(random());
        break;
      case 1:
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
        break;
      case 2:
        bytes.resize(at);
        break;
      case 3:
        bytes.erase(at, 1 + below(8));
        break;
      case 4:
        bytes.insert(at, bytes.substr(below(bytes.size()), below(64)));
        break;
      default:
        for (size_t k = at; k < std::min(bytes.size(), at + 1 + below(8)); ++k) bytes[k] = '\xff';
    }
  }
  return bytes;
}

}  // namespace seg::test
