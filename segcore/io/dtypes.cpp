#include "segcore/io/dtypes.hpp"

namespace seg {
namespace {

struct DtypeRow {
  at::ScalarType type;
  std::string_view python, storage, safetensors;
};

constexpr DtypeRow kDtypes[] = {
    {at::kFloat, "float32", "FloatStorage", "F32"},
    {at::kDouble, "float64", "DoubleStorage", "F64"},
    {at::kHalf, "float16", "HalfStorage", "F16"},
    {at::kBFloat16, "bfloat16", "BFloat16Storage", "BF16"},
    {at::kByte, "uint8", "ByteStorage", "U8"},
    {at::kChar, "int8", "CharStorage", "I8"},
    {at::kShort, "int16", "ShortStorage", "I16"},
    {at::kInt, "int32", "IntStorage", "I32"},
    {at::kLong, "int64", "LongStorage", "I64"},
    {at::kBool, "bool", "BoolStorage", "BOOL"},
    {at::kComplexFloat, "complex64", "ComplexFloatStorage", "C64"},
    {at::kComplexDouble, "complex128", "ComplexDoubleStorage", ""},
    {at::kComplexHalf, "complex32", "", ""},
    {at::kUInt16, "uint16", "", "U16"},
    {at::kUInt32, "uint32", "", "U32"},
    {at::kUInt64, "uint64", "", "U64"},
    {at::kFloat8_e5m2, "float8_e5m2", "", "F8_E5M2"},
    {at::kFloat8_e4m3fn, "float8_e4m3fn", "", "F8_E4M3"},
    {at::kFloat8_e5m2fnuz, "float8_e5m2fnuz", "", "F8_E5M2FNUZ"},
    {at::kFloat8_e4m3fnuz, "float8_e4m3fnuz", "", "F8_E4M3FNUZ"},
    {at::kFloat8_e8m0fnu, "float8_e8m0fnu", "", "F8_E8M0"},
    // Two numbers in a byte, so that safetensors' F4 has another shape; not converted.
    {at::kFloat4_e2m1fn_x2, "float4_e2m1fn_x2", "", ""},
    {at::kBits8, "bits8", "", ""},
    {at::kBits16, "bits16", "", ""},
    {at::kBits1x8, "bits1x8", "", ""},
    {at::kBits2x4, "bits2x4", "", ""},
    {at::kBits4x2, "bits4x2", "", ""},
};

const DtypeRow* dtype_row(at::ScalarType type) {
  for (const DtypeRow& row : kDtypes) {
    if (row.type == type) return &row;
  }
  return nullptr;
}

std::optional<at::ScalarType> dtype_where(std::string_view DtypeRow::*column,
                                          std::string_view name) {
  for (const DtypeRow& row : kDtypes) {
    if (!name.empty() && row.*column == name) return row.type;
  }
  return std::nullopt;
}

}  // namespace

std::string dtype_name(at::ScalarType type) {
  const DtypeRow* row = dtype_row(type);
  return row ? std::string(row->python) : std::string(c10::toString(type));
}

std::optional<at::ScalarType> dtype_of_name(std::string_view name) {
  return dtype_where(&DtypeRow::python, name);
}

std::string_view storage_class(at::ScalarType type) {
  const DtypeRow* row = dtype_row(type);
  return row ? row->storage : std::string_view();
}

std::optional<at::ScalarType> dtype_of_storage(std::string_view class_name) {
  if (class_name == "UntypedStorage" || class_name == "_UntypedStorage") return at::kByte;
  // Quantised numbers as stored; their scale is in the object around them.
  if (class_name == "QInt8Storage") return at::kChar;
  if (class_name == "QInt32Storage") return at::kInt;
  if (class_name == "QUInt8Storage" || class_name == "QUInt4x2Storage" ||
      class_name == "QUInt2x4Storage") {
    return at::kByte;
  }
  return dtype_where(&DtypeRow::storage, class_name);
}

std::string_view safetensors_dtype(at::ScalarType type) {
  const DtypeRow* row = dtype_row(type);
  return row ? row->safetensors : std::string_view();
}

std::optional<at::ScalarType> dtype_of_safetensors(std::string_view name) {
  return dtype_where(&DtypeRow::safetensors, name);
}

}  // namespace seg
