/// CLIP's byte-pair encoding of text.
#pragma once
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace seg {

/// Turns text into the numbers of its parts: Sennrich et al. 2016, arXiv:1508.07909, over the bytes
/// of UTF-8, in lower case.
///
/// Letters beyond ASCII keep their case and count as letters; no HTML entity is replaced, and no
/// wrongly decoded text is repaired, as the original does by two further packages.
class ClipTokenizer {
 public:
  /// \param file  the pairs in the order in which they were joined, a line each after the first, as
  ///              OpenAI publishes them (bpe_simple_vocab_16e6.txt), or packed by gzip.
  /// \throws DataError naming the file, if it cannot be read or holds no pairs.
  explicit ClipTokenizer(const std::string& file);

  /// The parts of a text between those of start and end, and zeros up to `length`. A text that is
  /// too long is cut, and ends with the part of the end.
  std::vector<int64_t> encode(const std::string& text, int64_t length) const;

 private:
  std::vector<int64_t> encode_word(const std::string& word) const;

  std::unordered_map<std::string, int64_t> ids_;    ///< of parts, in the letters of the file
  std::unordered_map<std::string, int64_t> ranks_;  ///< of pairs, "a b": smaller is joined first
};

}  // namespace seg
