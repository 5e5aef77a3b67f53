#include "segcore/io/numpy_array.hpp"

#include <ATen/ATen.h>

#include <bit>
#include <cstring>

#include "registry/error.hpp"
#include "segcore/io/byte_order.hpp"

namespace seg {
namespace {

struct NumpyDtype {
  char kind = 0;     // 'f', 'i', 'u', 'b', 'c', 'O', 'U', 'S'
  int64_t size = 0;  // bytes of an element
  bool swapped = false;
  std::optional<at::ScalarType> type;
};

std::optional<at::ScalarType> numeric_dtype(char kind, int64_t size) {
  switch (kind) {
    case 'b':
      if (size == 1) return at::kBool;
      break;
    case 'f':
      if (size == 2) return at::kHalf;
      if (size == 4) return at::kFloat;
      if (size == 8) return at::kDouble;
      break;
    case 'i':
      if (size == 1) return at::kChar;
      if (size == 2) return at::kShort;
      if (size == 4) return at::kInt;
      if (size == 8) return at::kLong;
      break;
    case 'u':
      if (size == 1) return at::kByte;
      if (size == 2) return at::kUInt16;
      if (size == 4) return at::kUInt32;
      if (size == 8) return at::kUInt64;
      break;
    case 'c':
      if (size == 8) return at::kComplexFloat;
      if (size == 16) return at::kComplexDouble;
      break;
    default:
      break;
  }
  return std::nullopt;
}

/// "f4" in the order '<' (little endian), '>', '=' (this machine's) or '|' (none).
std::optional<NumpyDtype> numpy_dtype(std::string_view name, char order) {
  NumpyDtype out;
  if (name.empty() || name.size() > 10) return std::nullopt;
  out.kind = name[0];
  for (size_t i = 1; i < name.size(); ++i) {
    if (name[i] < '0' || name[i] > '9') return std::nullopt;
    out.size = out.size * 10 + (name[i] - '0');
  }
  if (out.kind == 'U') out.size *= 4;  // UCS-4
  out.swapped = order == (std::endian::native == std::endian::little ? '>' : '<');
  out.type = numeric_dtype(out.kind, out.size);
  return out;
}

/// numpy.dtype('f4', False, True) with the state (3, '<', None, None, None, -1, -1, 0).
std::optional<NumpyDtype> read_numpy_dtype(const Value& dtype) {
  if (!dtype.is_opaque() || dtype.as_opaque().type != "numpy.dtype") return std::nullopt;
  const OpaqueObject& object = dtype.as_opaque();
  if (!object.arguments || object.arguments->empty() || !(*object.arguments)[0].is_string()) {
    return std::nullopt;
  }
  std::string name = (*object.arguments)[0].as_string();
  char order = '|';
  if (!name.empty() && std::string("<>=|").find(name[0]) != std::string::npos) {
    order = name[0];
    name.erase(0, 1);
  }
  if (object.state && object.state->is_tuple() && object.state->as_list().size() > 1 &&
      object.state->as_list()[1].is_string() && !object.state->as_list()[1].as_string().empty()) {
    order = object.state->as_list()[1].as_string()[0];
  }
  return numpy_dtype(name, order);
}

void append_utf8(std::string& out, uint32_t c) {
  auto tail = [&](int shift) { out.push_back(static_cast<char>(0x80 | (c >> shift & 0x3f))); };
  if (c < 0x80) {
    out.push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    out.push_back(static_cast<char>(0xc0 | c >> 6));
    tail(0);
  } else if (c < 0x10000) {
    out.push_back(static_cast<char>(0xe0 | c >> 12));
    tail(6);
    tail(0);
  } else {
    out.push_back(static_cast<char>(0xf0 | (c >> 18 & 7)));
    tail(12);
    tail(6);
    tail(0);
  }
}

/// One element of a string array; trailing zeros are padding.
Value numpy_string(const NumpyDtype& dtype, std::string_view bytes) {
  std::string out;
  if (dtype.kind == 'U') {
    std::string utf32(bytes);
    if (dtype.swapped) swap_bytes(utf32.data(), utf32.size() / 4, 4);
    for (size_t i = 0; i + 4 <= utf32.size(); i += 4) {
      uint32_t c = 0;
      std::memcpy(&c, utf32.data() + i, 4);
      append_utf8(out, c);
    }
    while (!out.empty() && out.back() == '\0') out.pop_back();
    return out;
  }
  out = bytes;
  while (!out.empty() && out.back() == '\0') out.pop_back();
  return Value::Bytes{std::move(out)};
}

std::string_view numpy_bytes(const Value& data) {
  return data.is_string() ? data.as_string() : data.as_bytes();
}

/// The elements in C order as a new tensor.
at::Tensor numpy_elements(const NumpyDtype& dtype, std::string_view bytes, at::IntArrayRef shape) {
  at::Tensor out = at::empty(shape, at::TensorOptions().dtype(*dtype.type));
  if (bytes.empty()) return out;
  auto* to = static_cast<char*>(out.mutable_data_ptr());
  std::memcpy(to, bytes.data(), bytes.size());
  const int64_t parts = dtype.kind == 'c' ? 2 : 1;
  if (dtype.swapped) {
    swap_bytes(to, bytes.size() / static_cast<size_t>(dtype.size / parts),
               static_cast<size_t>(dtype.size / parts));
  }
  if (dtype.kind == 'b') normalize_bools(to, bytes.size());
  return out;
}

/// The same from C or Fortran order.
at::Tensor ordered_elements(const NumpyDtype& dtype, std::string_view bytes,
                            const std::vector<int64_t>& shape, bool fortran_order) {
  if (!fortran_order || shape.size() < 2) return numpy_elements(dtype, bytes, shape);
  const std::vector<int64_t> reversed(shape.rbegin(), shape.rend());
  std::vector<int64_t> order(shape.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(order.size() - 1 - i);
  return numpy_elements(dtype, bytes, reversed).permute(order);
}

}  // namespace

std::optional<Value> numpy_array(const Value& dtype_object, const Value& shape_tuple,
                                 bool fortran_order, const Value& data) {
  const auto dtype = read_numpy_dtype(dtype_object);
  if (!dtype) return std::nullopt;
  std::vector<int64_t> shape;
  int64_t numel = 1;
  if (shape_tuple.is_int()) {
    shape.push_back(shape_tuple.as_int());
  } else {
    for (const Value& size : shape_tuple.as_list()) shape.push_back(size.as_int());
  }
  if (shape.size() > 64) throw CheckpointError("a NumPy array has more than 64 dimensions");
  for (int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(numel, size, &numel)) {
      throw CheckpointError(text("a NumPy array of shape [", join(shape, ", "), "]"));
    }
  }
  if (dtype->kind == 'O') {
    if (!data.is_list()) return std::nullopt;
    return data;
  }
  if (!dtype->type && dtype->kind != 'U' && dtype->kind != 'S') return std::nullopt;
  const std::string_view bytes = numpy_bytes(data);
  int64_t expected = 0;
  if (__builtin_mul_overflow(numel, dtype->size, &expected) ||
      expected != static_cast<int64_t>(bytes.size())) {
    throw CheckpointError(text("a NumPy array of shape [", join(shape, ", "), "] and ", dtype->size,
                               " bytes an element has ", bytes.size(), " bytes"));
  }
  if (!dtype->type) {
    if (dtype->size == 0) return std::nullopt;
    Value out = Value::list();
    const auto step = static_cast<size_t>(dtype->size);
    for (size_t i = 0; i < bytes.size(); i += step) {
      out.push_back(numpy_string(*dtype, bytes.substr(i, step)));
    }
    return out;
  }
  return Value(ordered_elements(*dtype, bytes, shape, fortran_order));
}

std::optional<at::Tensor> numpy_tensor(std::string_view type, const std::vector<int64_t>& shape,
                                       bool fortran_order, std::string_view bytes) {
  if (type.empty()) return std::nullopt;
  const auto dtype = numpy_dtype(type.substr(1), type[0]);
  if (!dtype || !dtype->type) return std::nullopt;
  int64_t expected = dtype->size;
  for (const int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(expected, size, &expected)) return std::nullopt;
  }
  if (expected > static_cast<int64_t>(bytes.size())) return std::nullopt;
  return ordered_elements(*dtype, bytes.substr(0, static_cast<size_t>(expected)), shape,
                          fortran_order);
}

std::optional<Value> numpy_scalar(const Value& dtype_object, const Value& data) {
  const auto dtype = read_numpy_dtype(dtype_object);
  if (!dtype || (!data.is_bytes() && !data.is_string())) return std::nullopt;
  const std::string_view bytes = numpy_bytes(data);
  if (!dtype->type) {
    if (dtype->kind != 'U' && dtype->kind != 'S') return std::nullopt;
    return numpy_string(*dtype, bytes);
  }
  if (static_cast<int64_t>(bytes.size()) != dtype->size) {
    throw CheckpointError(text("a NumPy scalar of ", dtype->size, " bytes has ", bytes.size()));
  }
  const at::Tensor element = numpy_elements(*dtype, bytes, {});
  if (*dtype->type == at::kBool) return Value(element.item<bool>());
  if (dtype->kind == 'f') return Value(element.item<double>());
  if (*dtype->type == at::kUInt64) {
    const uint64_t number = *element.const_data_ptr<uint64_t>();
    return number > INT64_MAX ? Value(element) : Value(static_cast<int64_t>(number));
  }
  if (dtype->kind == 'i' || dtype->kind == 'u') return Value(element.item<int64_t>());
  return Value(element);
}

}  // namespace seg
