#include <charconv>

#include "registry/error.hpp"
#include "segcore/io/numpy_array.hpp"
#include "segcore/io/volume_file.hpp"

namespace seg {
namespace {

constexpr std::string_view kNpyMagic = "\x93NUMPY";

/// The text after "'key':" in the header, which is a dictionary of Python.
std::string_view npy_value(std::string_view header, std::string_view key) {
  const size_t at = header.find(text("'", key, "':"));
  if (at == std::string_view::npos) return {};
  std::string_view value = header.substr(at + key.size() + 3);
  value.remove_prefix(std::min(value.find_first_not_of(' '), value.size()));
  return value;
}

std::optional<std::vector<int64_t>> npy_shape(std::string_view tuple) {
  const size_t end = tuple.find(')');
  if (!tuple.starts_with('(') || end == std::string_view::npos) return std::nullopt;
  std::vector<int64_t> shape;
  for (const char* at = tuple.data() + 1; at < tuple.data() + end;) {
    if (*at == ' ' || *at == ',') {
      ++at;
      continue;
    }
    int64_t size = 0;
    const auto [next, trouble] = std::from_chars(at, tuple.data() + end, size);
    if (trouble != std::errc() || size < 0) return std::nullopt;
    shape.push_back(size);
    at = next;
  }
  return shape;
}

}  // namespace

at::Tensor decode_npy(std::span<const uint8_t> bytes, const std::string& path) {
  const std::string_view file(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (!file.starts_with(kNpyMagic) || file.size() < 12) {
    throw DataError(text(path, ": is no NumPy array (.npy)"));
  }
  // Version 1 has two bytes of length, later ones four.
  const size_t start = bytes[6] == 1 ? 10 : 12;
  size_t length = bytes[8] | bytes[9] << 8;
  if (start == 12)
    length |= static_cast<size_t>(bytes[10]) << 16 | static_cast<size_t>(bytes[11]) << 24;
  if (length > file.size() - start) throw DataError(text(path, ": the header is cut off"));
  const std::string_view header = file.substr(start, length);
  std::string_view type = npy_value(header, "descr");
  const auto shape = npy_shape(npy_value(header, "shape"));
  if (!shape || shape->size() > 32 || !type.starts_with('\'')) {
    throw DataError(text(path, ": the header is damaged, or of an array of records"));
  }
  type = type.substr(1, type.find('\'', 1) - 1);
  const bool fortran = npy_value(header, "fortran_order").starts_with("True");
  const auto array = numpy_tensor(type, *shape, fortran, file.substr(start + length));
  if (!array) {
    throw DataError(text(path, ": the array of type '", std::string(type), "' and shape [",
                         join(*shape, ", "), "] holds no numbers, or the file is cut off: it has ",
                         file.size() - start - length, " bytes of data"));
  }
  return *array;
}

}  // namespace seg
