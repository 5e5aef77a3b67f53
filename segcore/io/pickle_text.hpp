/// The text of a pickle, read from its beginning to its end.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "registry/error.hpp"

namespace seg {

/// A cursor. All numbers are little-endian unless stated otherwise.
class PickleText {
 public:
  explicit PickleText(std::string_view text) : text_(text) {}

  /// \throws CheckpointError that names the byte of the current opcode.
  template <class... T>
  [[noreturn]] void fail(const T&... parts) const {
    throw CheckpointError(text("its pickle is damaged at byte ", opcode_at_, ": ", parts...));
  }

  /// Reads the opcode that the following reads belong to.
  uint8_t opcode() {
    opcode_at_ = at_;
    return byte();
  }
  uint8_t byte() { return static_cast<uint8_t>(bytes(1)[0]); }
  std::string_view bytes(uint64_t size) {
    if (size > left()) fail("cut short");
    const auto out = text_.substr(at_, size);
    at_ += size;
    return out;
  }
  /// Up to the next line feed, without it.
  std::string_view line();
  /// Unsigned, of `size` bytes.
  uint64_t number(int size) {
    const auto raw = bytes(static_cast<uint64_t>(size));
    uint64_t out = 0;
    for (int i = 0; i < size; ++i) {
      out |= static_cast<uint64_t>(static_cast<uint8_t>(raw[static_cast<size_t>(i)])) << (8 * i);
    }
    return out;
  }
  size_t position() const { return at_; }
  size_t left() const { return text_.size() - at_; }

  int64_t decimal(std::string_view digits) const;
  /// The value of a Python string literal of protocol 0: 'it\'s\n'.
  std::string quoted(std::string_view literal) const;
  /// In UTF-8. Protocol 0 writes characters above 255 as \uXXXX or \UXXXXXXXX and the others as
  /// Latin-1.
  std::string raw_unicode(std::string_view escaped) const;

 private:
  std::string_view text_;
  size_t at_ = 0, opcode_at_ = 0;
};

}  // namespace seg
