#include <ATen/ops/empty.h>
#include <zlib.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <optional>
#include <vector>

#include "registry/error.hpp"
#include "segcore/io/byte_order.hpp"
#include "segcore/io/volume_file.hpp"

namespace seg {
namespace {

constexpr size_t kNiftiHeader = 348;

/// Hands out the bytes of a file one after the other, decompressed where gzip has packed them.
class NiftiBytes {
 public:
  NiftiBytes(std::span<const uint8_t> bytes, const std::string& path) : rest_(bytes), path_(path) {
    packed_ = bytes.size() > 2 && bytes[0] == 0x1F && bytes[1] == 0x8B;
    // 16: a header of gzip.
    if (packed_ && inflateInit2(&stream_, 16 + MAX_WBITS) != Z_OK) {
      throw Error("zlib cannot be started");
    }
    stream_.next_in = const_cast<Bytef*>(rest_.data());
    left_in_ = rest_.size();
  }
  ~NiftiBytes() {
    if (packed_) inflateEnd(&stream_);
  }
  NiftiBytes(const NiftiBytes&) = delete;
  NiftiBytes& operator=(const NiftiBytes&) = delete;

  void read(uint8_t* to, size_t count) {
    if (!packed_) {
      if (count > rest_.size()) cut_off();
      std::memcpy(to, rest_.data(), count);
      rest_ = rest_.subspan(count);
      return;
    }
    constexpr size_t kAtOnce = size_t{1} << 30;  // zlib counts in 32 bits
    while (count > 0) {
      const size_t out = std::min(count, kAtOnce), in = std::min(left_in_, kAtOnce);
      stream_.next_out = to;
      stream_.avail_out = static_cast<uInt>(out);
      stream_.avail_in = static_cast<uInt>(in);
      const int state = inflate(&stream_, Z_NO_FLUSH);
      const size_t made = out - stream_.avail_out;
      left_in_ -= in - stream_.avail_in;
      to += made;
      count -= made;
      if (count == 0) return;
      if (state != Z_OK || (made == 0 && in == stream_.avail_in)) cut_off();
    }
  }
  void skip(size_t count) {
    std::vector<uint8_t> unused(std::min<size_t>(count, 65536));
    for (; count > 0; count -= std::min(count, unused.size())) {
      read(unused.data(), std::min(count, unused.size()));
    }
  }

 private:
  [[noreturn]] void cut_off() const {
    throw DataError(text(path_, ": the NIfTI volume is cut off or damaged"));
  }

  std::span<const uint8_t> rest_;
  const std::string& path_;
  bool packed_ = false;
  z_stream stream_{};
  size_t left_in_ = 0;
};

/// The numbers of the header, which is of either byte order.
class NiftiHeader {
 public:
  explicit NiftiHeader(const uint8_t* bytes) : bytes_(bytes) {
    swapped_ = number<int32_t>(0) != static_cast<int32_t>(kNiftiHeader);
  }
  bool swapped() const { return swapped_; }
  bool is_one_file() const {
    return number<int32_t>(0) == static_cast<int32_t>(kNiftiHeader) &&
           std::memcmp(bytes_ + 344, "n+1", 4) == 0;
  }
  template <class T>
  T number(size_t offset) const {
    T out;
    std::memcpy(&out, bytes_ + offset, sizeof(T));
    if (swapped_) swap_bytes(reinterpret_cast<char*>(&out), 1, sizeof(T));
    return out;
  }
  /// [X, Y, Z, ...]; nothing where it cannot be.
  std::optional<std::vector<int64_t>> shape() const {
    const int count = number<int16_t>(40);
    if (count < 1 || count > 7) return std::nullopt;
    std::vector<int64_t> out;
    for (int i = 1; i <= count; ++i)
      out.push_back(number<int16_t>(40 + 2 * static_cast<size_t>(i)));
    for (const int64_t size : out) {
      if (size < 1) return std::nullopt;
    }
    return out;
  }
  std::optional<at::ScalarType> type() const {
    switch (number<int16_t>(70)) {
      case 2:
        return at::kByte;
      case 4:
        return at::kShort;
      case 8:
        return at::kInt;
      case 16:
        return at::kFloat;
      case 64:
        return at::kDouble;
      case 256:
        return at::kChar;
      case 512:
        return at::kUInt16;
      case 768:
        return at::kUInt32;
      case 1024:
        return at::kLong;
      case 1280:
        return at::kUInt64;
      default:
        return std::nullopt;
    }
  }

 private:
  const uint8_t* bytes_;
  bool swapped_ = false;
};

}  // namespace

bool is_volume_file(std::string_view path) {
  return path.ends_with(".nii") || path.ends_with(".nii.gz") || path.ends_with(".npy");
}

at::Tensor decode_nifti(std::span<const uint8_t> bytes, const std::string& path) {
  NiftiBytes file(bytes, path);
  std::vector<uint8_t> head(kNiftiHeader);
  file.read(head.data(), head.size());
  const NiftiHeader header(head.data());
  if (!header.is_one_file()) {
    throw DataError(text(path, ": is no NIfTI-1 volume in one file (.nii or .nii.gz)"));
  }
  auto shape = header.shape();
  const auto type = header.type();
  if (!shape || !type) {
    throw DataError(text(path, ": a NIfTI volume of type ", header.number<int16_t>(70), " with ",
                         header.number<int16_t>(40),
                         " dimensions cannot be read; types are whole and real numbers"));
  }
  const double offset = header.number<float>(108);
  if (!(offset >= kNiftiHeader && offset < 1e9)) {
    throw DataError(text(path, ": the NIfTI header gives ", offset, " as the place of the data"));
  }
  file.skip(static_cast<size_t>(offset) - kNiftiHeader);

  // X changes fastest.
  std::vector<int64_t> order(shape->size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(order.size() - 1 - i);
  std::reverse(shape->begin(), shape->end());
  // A short file must not ask for much memory: compressed numbers are hardly a thousandth.
  int64_t numel = 1;
  for (const int64_t size : *shape) {
    if (__builtin_mul_overflow(numel, size, &numel)) numel = INT64_MAX;
  }
  if (numel / 2048 > static_cast<int64_t>(bytes.size())) {
    throw DataError(text(path, ": the NIfTI volume is cut off or damaged"));
  }
  at::Tensor raw = at::empty(*shape, at::TensorOptions().dtype(*type));
  file.read(static_cast<uint8_t*>(raw.mutable_data_ptr()), raw.nbytes());
  if (header.swapped()) {
    swap_bytes(static_cast<char*>(raw.mutable_data_ptr()), static_cast<size_t>(raw.numel()),
               raw.element_size());
  }
  at::Tensor out = raw.to(at::kDouble);
  // A slope of 0 means that values are as they stand.
  const double slope = header.number<float>(112), shift = header.number<float>(116);
  if (slope != 0 && std::isfinite(slope)) {
    if (slope != 1) out.mul_(slope);
    if (std::isfinite(shift) && shift != 0) out.add_(shift);
  }
  return out.permute(order);
}

}  // namespace seg
