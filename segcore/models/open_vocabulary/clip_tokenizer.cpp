#include "segcore/models/open_vocabulary/clip_tokenizer.hpp"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string_view>

#include "registry/error.hpp"
#include "registry/text.hpp"

namespace seg {
namespace {

constexpr int64_t kPairs = 49152 - 256 - 2;
constexpr const char* kEndOfWord = "</w>";
constexpr const char* kStartOfText = "<start_of_text>";
constexpr const char* kEndOfText = "<end_of_text>";

/// A file's text, unpacked if gzip packed it.
std::string unpacked_text(const std::string& file) {
  const std::unique_ptr<gzFile_s, decltype(&gzclose)> in(gzopen(file.c_str(), "rb"), &gzclose);
  if (!in) {
    throw DataError(text(file,
                         ": cannot be read. The text encoder needs CLIP's vocabulary, "
                         "bpe_simple_vocab_16e6.txt.gz of github.com/openai/CLIP: "
                         "set text_encoder.vocabulary_file to where it is"));
  }
  std::string out;
  std::array<char, 1 << 16> buffer{};
  for (int got = 0; (got = gzread(in.get(), buffer.data(), buffer.size())) != 0;) {
    if (got < 0) throw DataError(text(file, ": its gzip data are damaged"));
    out.append(buffer.data(), static_cast<size_t>(got));
  }
  return out;
}

std::string utf8_of(uint32_t code) {  // below 0x800
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))};
}

struct ByteLetters {
  std::array<std::string, 256> letter;  ///< of each byte
  std::vector<uint8_t> order;           ///< of the bytes, by their numbers
};

/// The letter that stands for each byte in the file: itself where it can be seen in Latin-1, or one
/// of those from 256 on.
const ByteLetters& byte_letters() {
  static const ByteLetters table = [] {
    const auto visible = [](int byte) {
      return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    };
    ByteLetters out;
    for (int byte = 0; byte < 256; ++byte) {
      if (visible(byte)) out.order.push_back(static_cast<uint8_t>(byte));
    }
    uint32_t next = 256;
    for (int byte = 0; byte < 256; ++byte) {
      const auto at = static_cast<size_t>(byte);
      if (visible(byte)) {
        out.letter[at] = utf8_of(static_cast<uint32_t>(byte));
      } else {
        out.letter[at] = utf8_of(next++);
        out.order.push_back(static_cast<uint8_t>(byte));
      }
    }
    return out;
  }();
  return table;
}

bool is_space(char c) { return std::string_view(" \t\n\v\f\r").find(c) != std::string_view::npos; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || static_cast<unsigned char>(c) >= 0x80; }

/// How many characters from `begin` on make the next word of a text in lower case: the ending of
/// a contraction, letters, one digit, or signs.
size_t word_length(std::string_view rest) {
  for (const std::string_view ending : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}) {
    if (rest.starts_with(ending)) return ending.size();
  }
  if (is_digit(rest[0])) return 1;
  const bool letters = is_letter(rest[0]);
  size_t n = 1;
  while (n < rest.size() && !is_space(rest[n]) && !is_digit(rest[n]) &&
         is_letter(rest[n]) == letters) {
    ++n;
  }
  return n;
}

}  // namespace

ClipTokenizer::ClipTokenizer(const std::string& file) {
  const std::string content = unpacked_text(file);
  const auto& bytes = byte_letters();
  const auto add = [this](const std::string& part) {
    ids_.emplace(part, static_cast<int64_t>(ids_.size()));
  };
  for (const uint8_t byte : bytes.order) add(bytes.letter[byte]);
  for (const uint8_t byte : bytes.order) add(bytes.letter[byte] + kEndOfWord);
  size_t begin = content.find('\n');  // the first line is a title
  while (begin != std::string::npos && static_cast<int64_t>(ranks_.size()) < kPairs) {
    const size_t end = content.find('\n', ++begin);
    std::string pair = content.substr(begin, end == std::string::npos ? end : end - begin);
    begin = end;
    if (!pair.empty() && pair.back() == '\r') pair.pop_back();
    const size_t blank = pair.find(' ');
    if (pair.empty()) continue;
    if (blank == std::string::npos) {
      throw DataError(text(file, ": line ", ranks_.size() + 2, " is no pair of parts: '", pair,
                           "'. It is not CLIP's vocabulary"));
    }
    ranks_.emplace(pair, static_cast<int64_t>(ranks_.size()));
    add(pair.substr(0, blank) + pair.substr(blank + 1));
  }
  if (ranks_.empty()) throw DataError(text(file, ": holds no pairs of parts"));
  add(kStartOfText);
  add(kEndOfText);
}

std::vector<int64_t> ClipTokenizer::encode_word(const std::string& word) const {
  std::vector<std::string> parts;
  for (const char c : word) {
    parts.push_back(byte_letters().letter[static_cast<unsigned char>(c)]);
  }
  parts.back() += kEndOfWord;
  while (parts.size() > 1) {
    const std::string* first = nullptr;
    const std::string* second = nullptr;
    int64_t best = kPairs;
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto found = ranks_.find(parts[i] + ' ' + parts[i + 1]);
      if (found == ranks_.end() || found->second >= best) continue;
      best = found->second;
      first = &parts[i];
      second = &parts[i + 1];
    }
    if (!first) break;
    // Every place of the pair is joined, from the left.
    std::vector<std::string> joined;
    for (size_t i = 0; i < parts.size(); ++i) {
      const bool pair = i + 1 < parts.size() && parts[i] == *first && parts[i + 1] == *second;
      joined.push_back(pair ? parts[i] + parts[i + 1] : parts[i]);
      if (pair) ++i;
    }
    parts = std::move(joined);
  }
  std::vector<int64_t> out;
  for (const auto& part : parts) out.push_back(ids_.at(part));
  return out;
}

std::vector<int64_t> ClipTokenizer::encode(const std::string& text, int64_t length) const {
  std::string lower = text;
  std::ranges::transform(lower, lower.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  const int64_t end_of_text = ids_.at(kEndOfText);
  std::vector<int64_t> out{ids_.at(kStartOfText)};
  for (size_t i = 0; i < lower.size();) {
    if (is_space(lower[i])) {
      ++i;
      continue;
    }
    const size_t n = word_length(std::string_view(lower).substr(i));
    const auto word = encode_word(lower.substr(i, n));
    out.insert(out.end(), word.begin(), word.end());
    i += n;
  }
  out.push_back(end_of_text);
  const auto size = static_cast<size_t>(length);
  if (out.size() > size) out[size - 1] = end_of_text;
  out.resize(size, 0);
  return out;
}

}  // namespace seg
