#include "segcore/io/zip_file.hpp"

#include <ATen/Parallel.h>
#include <zlib.h>

#include <algorithm>
#include <limits>

#include "registry/error.hpp"

namespace seg {
namespace {

constexpr uint32_t kLocalHeader = 0x04034b50, kDirectoryHeader = 0x02014b50;
constexpr uint32_t kEndRecord = 0x06054b50, kEndRecord64 = 0x06064b50, kEndLocator64 = 0x07064b50;
constexpr uint32_t k32Bits = 0xffffffff;  // "look into the zip64 field"
constexpr uint16_t k16Bits = 0xffff;
constexpr uint16_t kZip64Field = 1;

[[noreturn]] void damaged_zip(const char* what) {
  throw CheckpointError(text("the zip archive is damaged (", what, ")"));
}

/// Little-endian numbers at a place of the file; beyond its end is an error.
class ZipBytes {
 public:
  explicit ZipBytes(std::string_view file) : file_(file) {}
  template <class T>
  T at(uint64_t offset) const {
    if (offset > file_.size() || file_.size() - offset < sizeof(T)) damaged_zip("cut short");
    T out = 0;
    for (size_t i = 0; i < sizeof(T); ++i) {
      out =
          static_cast<T>(out | static_cast<T>(static_cast<uint8_t>(file_[offset + i])) << (8 * i));
    }
    return out;
  }
  std::string_view range(uint64_t offset, uint64_t size) const {
    if (offset > file_.size() || file_.size() - offset < size) damaged_zip("cut short");
    return file_.substr(offset, size);
  }

 private:
  std::string_view file_;
};

/// Where the directory lies, from the record at the end of the file.
struct ZipEnd {
  uint64_t offset = 0, size = 0, entries = 0;
};

ZipEnd find_zip_end(std::string_view file) {
  constexpr uint64_t kRecord = 22, kLongestComment = 65535;
  const ZipBytes bytes(file);
  if (file.size() < kRecord) damaged_zip("cut short");
  const uint64_t last = file.size() - kRecord;
  const uint64_t first = last > kLongestComment ? last - kLongestComment : 0;
  for (uint64_t at = last + 1; at-- > first;) {
    if (bytes.at<uint32_t>(at) != kEndRecord) continue;
    ZipEnd end{bytes.at<uint32_t>(at + 16), bytes.at<uint32_t>(at + 12),
               bytes.at<uint16_t>(at + 10)};
    if (end.offset != k32Bits && end.size != k32Bits && end.entries != k16Bits) return end;
    if (at < 20 || bytes.at<uint32_t>(at - 20) != kEndLocator64) return end;
    const auto record = bytes.at<uint64_t>(at - 20 + 8);
    if (bytes.at<uint32_t>(record) != kEndRecord64) damaged_zip("no zip64 record");
    return {bytes.at<uint64_t>(record + 48), bytes.at<uint64_t>(record + 40),
            bytes.at<uint64_t>(record + 32)};
  }
  damaged_zip("its directory is missing: the file was cut short");
}

/// Replaces sizes and offset that stand in the zip64 field of the entry.
void read_zip64_field(std::string_view extra, uint64_t& size, uint64_t& stored, uint64_t& offset) {
  const ZipBytes bytes(extra);
  for (uint64_t at = 0; at + 4 <= extra.size();) {
    const auto id = bytes.at<uint16_t>(at);
    const auto length = bytes.at<uint16_t>(at + 2);
    at += 4;
    if (id == kZip64Field) {
      const ZipBytes field(bytes.range(at, length));
      uint64_t place = 0;
      for (uint64_t* value : {&size, &stored, &offset}) {
        if (*value != k32Bits) continue;
        *value = field.at<uint64_t>(place);
        place += 8;
      }
      return;
    }
    at += length;
  }
}

void put_number(std::string& out, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<char>(value >> (8 * i) & 0xff));
}

}  // namespace

std::vector<ZipEntry> read_zip_directory(std::string_view file) {
  const ZipBytes bytes(file);
  const ZipEnd end = find_zip_end(file);
  const std::string_view directory = bytes.range(end.offset, end.size);
  constexpr uint64_t kSmallestEntry = 46;
  if (end.entries > directory.size() / kSmallestEntry) damaged_zip("too many entries");
  std::vector<ZipEntry> out;
  out.reserve(end.entries);
  const ZipBytes listed(directory);
  uint64_t at = 0;
  for (uint64_t i = 0; i < end.entries; ++i) {
    if (listed.at<uint32_t>(at) != kDirectoryHeader) damaged_zip("its directory");
    const auto flags = listed.at<uint16_t>(at + 8);
    const auto method = listed.at<uint16_t>(at + 10);
    uint64_t stored = listed.at<uint32_t>(at + 20), size = listed.at<uint32_t>(at + 24);
    const auto name_size = listed.at<uint16_t>(at + 28);
    const auto extra_size = listed.at<uint16_t>(at + 30);
    const auto comment_size = listed.at<uint16_t>(at + 32);
    uint64_t header = listed.at<uint32_t>(at + 42);
    ZipEntry entry;
    entry.crc = listed.at<uint32_t>(at + 16);
    entry.name = listed.range(at + kSmallestEntry, name_size);
    read_zip64_field(listed.range(at + kSmallestEntry + name_size, extra_size), size, stored,
                     header);
    at += kSmallestEntry + name_size + extra_size + comment_size;
    // The name and the extra field of the local header have lengths of their own. A data descriptor
    // (flag 3) comes after the data and repeats what the directory says.
    if (bytes.at<uint32_t>(header) != kLocalHeader) damaged_zip("an entry's header");
    entry.offset = header + 30 + bytes.at<uint16_t>(header + 26) + bytes.at<uint16_t>(header + 28);
    entry.compressed = method != 0;
    if (flags & 1) throw CheckpointError("the zip archive is encrypted");
    entry.size = stored;
    if (!entry.compressed && size != stored) damaged_zip("an entry's size");
    bytes.range(entry.offset, entry.size);
    out.push_back(std::move(entry));
  }
  return out;
}

uint32_t zip_crc32(const void* data, size_t size) {
  constexpr size_t kChunk = 4 << 20;
  const auto* bytes = static_cast<const Bytef*>(data);
  auto one = [](const Bytef* from, size_t n) {
    uLong crc = ::crc32(0, nullptr, 0);
    while (n > 0) {
      const auto part = static_cast<uInt>(std::min<size_t>(n, 1u << 30));
      crc = ::crc32(crc, from, part);
      from += part;
      n -= part;
    }
    return crc;
  };
  if (size <= kChunk) return static_cast<uint32_t>(one(bytes, size));
  const size_t chunks = (size + kChunk - 1) / kChunk;
  std::vector<uLong> parts(chunks);
  auto length = [&](size_t i) { return std::min(kChunk, size - i * kChunk); };
  at::parallel_for(0, static_cast<int64_t>(chunks), 1, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      parts[i] = one(bytes + i * kChunk, length(i));
    }
  });
  uLong crc = parts[0];
  for (size_t i = 1; i < chunks; ++i) {
    crc = ::crc32_combine(crc, parts[i], static_cast<z_off_t>(length(i)));
  }
  return static_cast<uint32_t>(crc);
}

void ZipWriter::add(const std::string& name, const void* data, uint64_t size, uint64_t alignment) {
  const Written entry{name, file_.position(), size, zip_crc32(data, size)};
  const bool large = always_zip64_ || size >= k32Bits;
  std::string header, extra;
  if (large) {
    put_number(extra, kZip64Field, 2);
    put_number(extra, 16, 2);
    put_number(extra, size, 8);
    put_number(extra, size, 8);
  }
  // Padding is an extra field "FB", as PyTorch's own writer names it.
  const uint64_t fixed = entry.header + 30 + name.size() + extra.size() + 4;
  const uint64_t padding = (alignment - fixed % alignment) % alignment;
  extra += "FB";
  put_number(extra, padding, 2);
  extra.append(padding, 'Z');

  put_number(header, kLocalHeader, 4);
  put_number(header, large ? 45 : 20, 2);  // version that can read it
  put_number(header, 0x0800, 2);           // names are UTF-8
  put_number(header, 0, 2);                // stored
  put_number(header, 0, 2);                // time and date: files with equal contents are equal
  put_number(header, 0x21, 2);             // 1980-01-01
  put_number(header, entry.crc, 4);
  put_number(header, large ? k32Bits : size, 4);
  put_number(header, large ? k32Bits : size, 4);
  put_number(header, name.size(), 2);
  put_number(header, extra.size(), 2);
  header += name;
  header += extra;
  file_.write(header);
  file_.write(data, size);
  written_.push_back(entry);
}

void ZipWriter::finish() {
  const uint64_t begin = file_.position();
  std::string out;
  for (const Written& entry : written_) {
    const bool large = always_zip64_ || entry.size >= k32Bits;
    const bool far = always_zip64_ || entry.header >= k32Bits;
    std::string field;
    if (large) {
      put_number(field, entry.size, 8);
      put_number(field, entry.size, 8);
    }
    if (far) put_number(field, entry.header, 8);
    put_number(out, kDirectoryHeader, 4);
    put_number(out, large || far ? 45 : 20, 2);
    put_number(out, large || far ? 45 : 20, 2);
    put_number(out, 0x0800, 2);
    put_number(out, 0, 4);
    put_number(out, 0x21, 2);
    put_number(out, entry.crc, 4);
    put_number(out, large ? k32Bits : entry.size, 4);
    put_number(out, large ? k32Bits : entry.size, 4);
    put_number(out, entry.name.size(), 2);
    put_number(out, field.empty() ? 0 : field.size() + 4, 2);
    put_number(out, 0, 2);  // comment
    put_number(out, 0, 2);  // disk
    put_number(out, 0, 2);  // internal attributes
    put_number(out, 0, 4);  // external attributes
    put_number(out, far ? k32Bits : entry.header, 4);
    out += entry.name;
    if (!field.empty()) {
      put_number(out, kZip64Field, 2);
      put_number(out, field.size(), 2);
      out += field;
    }
  }
  const uint64_t size = out.size(), end = begin + size;
  const bool large =
      always_zip64_ || begin >= k32Bits || size >= k32Bits || written_.size() >= k16Bits;
  if (large) {
    put_number(out, kEndRecord64, 4);
    put_number(out, 44, 8);  // of the rest of this record
    put_number(out, 45, 2);
    put_number(out, 45, 2);
    put_number(out, 0, 8);  // disks
    put_number(out, written_.size(), 8);
    put_number(out, written_.size(), 8);
    put_number(out, size, 8);
    put_number(out, begin, 8);
    put_number(out, kEndLocator64, 4);
    put_number(out, 0, 4);
    put_number(out, end, 8);
    put_number(out, 1, 4);
  }
  put_number(out, kEndRecord, 4);
  put_number(out, 0, 4);
  put_number(out, large ? k16Bits : written_.size(), 2);
  put_number(out, large ? k16Bits : written_.size(), 2);
  put_number(out, large ? k32Bits : size, 4);
  put_number(out, large ? k32Bits : begin, 4);
  put_number(out, 0, 2);
  file_.write(out);
}

}  // namespace seg
