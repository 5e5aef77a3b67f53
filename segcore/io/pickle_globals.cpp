#include "segcore/io/pickle_globals.hpp"

#include <ATen/ATen.h>
#include <c10/core/TensorImpl.h>

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "segcore/io/byte_order.hpp"
#include "segcore/io/dtypes.hpp"
#include "segcore/io/numpy_array.hpp"

namespace seg {
namespace {

std::string canonical_name(std::string_view module, std::string_view name) {
  std::string out(module);
  auto rename = [&](std::string_view from, std::string_view to) {
    if (out.compare(0, from.size(), from) == 0 &&
        (out.size() == from.size() || out[from.size()] == '.')) {
      out = std::string(to) + out.substr(from.size());
    }
  };
  rename("numpy._core", "numpy.core");
  rename("__builtin__", "builtins");
  rename("copy_reg", "copyreg");
  return out + "." + std::string(name);
}

bool is_sequence(const Value& v) { return v.is_list() || v.is_tuple(); }

/// Protocol 2 writes bytes as a string of characters below 256; nothing for other characters.
std::optional<Value> latin1_bytes(const std::string& utf8) {
  std::string out;
  for (size_t i = 0; i < utf8.size(); ++i) {
    const auto c = static_cast<uint8_t>(utf8[i]);
    if (c < 0x80) {
      out.push_back(utf8[i]);
    } else if ((c == 0xc2 || c == 0xc3) && i + 1 < utf8.size()) {
      out.push_back(static_cast<char>((c & 3) << 6 | (utf8[++i] & 0x3f)));
    } else {
      return std::nullopt;
    }
  }
  return Value(Value::Bytes{std::move(out)});
}

/// Sizes and strides of a tensor within its storage, in elements.
struct TensorLayout {
  std::vector<int64_t> sizes, strides;
  int64_t offset = 0;

  std::string text() const {
    return seg::text("[", join(sizes, ", "), "], strides [", join(strides, ", "), "] and offset ",
                     offset);
  }
  /// The number of elements, or nothing where some lie outside the storage.
  std::optional<int64_t> elements_within(int64_t available) const {
    int64_t last = offset, numel = 1;
    if (offset < 0) return std::nullopt;
    for (size_t i = 0; i < sizes.size(); ++i) {
      int64_t reach = 0;
      if (sizes[i] < 0 || strides[i] < 0 || __builtin_mul_overflow(numel, sizes[i], &numel) ||
          __builtin_mul_overflow(sizes[i] > 0 ? sizes[i] - 1 : 0, strides[i], &reach) ||
          __builtin_add_overflow(last, reach, &last)) {
        return std::nullopt;
      }
    }
    if (offset > available || (numel > 0 && last >= available)) return std::nullopt;
    return numel;
  }
};

/// Views that PyTorch negates or conjugates only when they are read: {'neg': True}, the last
/// argument.
at::Tensor resolve_view(at::Tensor tensor, const Value* metadata) {
  const auto is_set = [&](const char* name) {
    const Value* flag = metadata && metadata->is_dict() ? metadata->find(name) : nullptr;
    return flag && flag->is_bool() && flag->as_bool();
  };
  if (is_set("conj")) tensor = at::conj_physical(tensor);
  if (is_set("neg")) tensor = at::neg(tensor);
  return tensor;
}

}  // namespace

Value pickle_global(std::string_view module, std::string_view name) {
  return Value(OpaqueObject{canonical_name(module, name), {}, {}});
}

std::string global_name(const Value& v) {
  if (!v.is_opaque() || v.as_opaque().arguments) return {};
  return v.as_opaque().type;
}

/// torch._utils._rebuild_tensor(storage, offset, size, stride, ...)
Value PickleGlobals::rebuild_tensor(const ValueList& arguments, bool third_version) {
  const size_t wanted = third_version ? 7 : 4;
  if (arguments.size() < wanted) text_.fail("a tensor with ", arguments.size(), " arguments");
  TensorLayout layout{.offset = arguments[1].as_int()};
  for (const Value& v : arguments[2].as_list()) layout.sizes.push_back(v.as_int());
  for (const Value& v : arguments[3].as_list()) layout.strides.push_back(v.as_int());
  if (layout.sizes.size() != layout.strides.size() || layout.sizes.size() > 64) {
    text_.fail("a tensor with ", layout.sizes.size(), " sizes and ", layout.strides.size(),
               " strides");
  }
  if (arguments[0].is_none()) return {};  // only the structure is wanted
  const at::Tensor& storage = arguments[0].as_tensor();
  if (storage.dim() != 1 || (storage.numel() > 1 && storage.stride(0) != 1)) {
    text_.fail("a tensor made of ", arguments[0].kind_text());
  }
  at::ScalarType dtype = storage.scalar_type();
  if (third_version) {
    const std::string name = global_name(arguments[6]);
    const auto named = dtype_of_name(name.substr(name.rfind('.') + 1));
    // What this LibTorch has no numbers for must not keep the rest of the file from being read.
    if (!named) return values_.new_object(text("torch.Tensor of ", name), {});
    dtype = *named;
  }
  const auto element = static_cast<int64_t>(c10::elementSize(dtype));
  const int64_t begin = storage.storage_offset() * static_cast<int64_t>(storage.element_size());
  const int64_t available =
      storage.numel() * static_cast<int64_t>(storage.element_size()) / element;
  const auto address = reinterpret_cast<uintptr_t>(storage.const_data_ptr());
  const bool aligned =
      begin % element == 0 && (!third_version || address % static_cast<uintptr_t>(element) == 0);
  const auto numel = layout.elements_within(available);
  if (!aligned || !numel) {
    text_.fail("a tensor of shape ", layout.text(), " does not fit its storage of ", available,
               " elements");
  }
  // A view with stride 0 must not pretend to be much larger than the file.
  constexpr int64_t kRepeats = 64, kRepeatsAlways = 1 << 20;
  if (*numel > std::max(kRepeatsAlways, available) &&
      *numel / kRepeats > std::max<int64_t>(available, 1)) {
    text_.fail("a tensor of shape [", join(layout.sizes, ", "), "] repeats a storage of ",
               available, " elements");
  }
  at::Tensor out = at::detail::make_tensor<c10::TensorImpl>(
      c10::Storage(storage.storage()), c10::DispatchKeySet(c10::DispatchKey::CPU),
      c10::scalarTypeToTypeMeta(dtype));
  if (third_version && dtype == at::kBool && available > 0) {
    normalize_bools(static_cast<char*>(storage.mutable_data_ptr()), static_cast<size_t>(available));
  }
  out.unsafeGetTensorImpl()->set_sizes_and_strides(layout.sizes, layout.strides,
                                                   begin / element + layout.offset);
  try {
    return resolve_view(out, arguments.size() > wanted ? &arguments.back() : nullptr);
  } catch (const c10::Error&) {
    text_.fail("a negated or conjugated tensor of type ", dtype_name(dtype));
  }
}

/// ('storage', torch.FloatStorage, key, location, numel[, view]): tensors are made of these.
Value PickleGlobals::persistent(const Value& id) {
  if (!id.is_tuple()) text_.fail("an external object of unknown kind");
  const ValueList& items = id.as_list();
  if (!items.empty() && items[0].is_string() && items[0].as_string() == "module" &&
      items.size() > 1) {
    return items[1];  // a class with its source text, in files of long ago
  }
  if (items.size() < 5 || !items[0].is_string() || items[0].as_string() != "storage") {
    text_.fail("an external object of unknown kind");
  }
  const std::string type = global_name(items[1]);
  const auto dtype = dtype_of_storage(type.substr(type.rfind('.') + 1));
  if (!dtype) text_.fail("a storage of type '", type, "'");
  StorageReference reference;
  reference.key = items[2].is_string() ? items[2].as_string() : text(items[2].as_int());
  reference.dtype = *dtype;
  reference.numel = items[4].as_int();
  if (reference.numel < 0) text_.fail("a storage of ", reference.numel, " elements");
  const at::Tensor storage = storages_(reference);
  if (!storage.defined()) return {};
  if (items.size() > 5 && items[5].is_tuple()) {  // (view key, offset, numel)
    const ValueList& view = items[5].as_list();
    if (view.size() < 3) text_.fail("a view of a storage");
    const int64_t offset = view[1].as_int(), numel = view[2].as_int();
    if (offset < 0 || numel < 0 || offset > storage.numel() || numel > storage.numel() - offset) {
      text_.fail("a view of ", numel, " elements at ", offset, " of a storage of ",
                 storage.numel());
    }
    return storage.narrow(0, offset, numel);
  }
  return storage;
}

Value PickleGlobals::pairs_to_dict(const Value& pairs) {
  const Value out = values_.new_dict();
  for (const Value& pair : pairs.as_list()) {
    if (is_sequence(pair)) values_.charge(pair.as_list());
    if (!is_sequence(pair) || pair.as_list().size() != 2) {
      text_.fail("a dict of something else than pairs");
    }
    values_.set_item(out, pair.as_list()[0], pair.as_list()[1]);
  }
  return out;
}

std::optional<Value> PickleGlobals::torch_value(const std::string& name, const ValueList& a) {
  if (name == "torch._utils._rebuild_tensor" || name == "torch._utils._rebuild_tensor_v2") {
    return rebuild_tensor(a, false);
  }
  if (name == "torch._utils._rebuild_tensor_v3") return rebuild_tensor(a, true);
  if (name == "torch._utils._rebuild_parameter" ||
      name == "torch._utils._rebuild_parameter_with_state" ||
      name == "torch._utils._rebuild_device_tensor_from_numpy" ||
      name == "torch._utils._rebuild_device_tensor_from_cpu_tensor") {
    if (a.empty()) text_.fail("a parameter without data");
    return a[0];
  }
  if (name == "torch._tensor._rebuild_from_type_v2" && a.size() >= 3 && a[2].is_tuple()) {
    // (function, type, arguments, state). Calls inside calls are bounded by their tuples' nesting.
    const std::string inner = global_name(a[0]);
    if (inner.rfind("torch._utils._rebuild_tensor", 0) == 0 ||
        inner.rfind("torch._utils._rebuild_parameter", 0) == 0) {
      return known(inner, a[2].as_list());
    }
  }
  if (name == "torch.device" && !a.empty() && a[0].is_string()) {
    return a.size() > 1 && a[1].is_int() ? Value(text(a[0].as_string(), ":", a[1].as_int())) : a[0];
  }
  return std::nullopt;
}

std::optional<Value> PickleGlobals::container_value(const std::string& name, const ValueList& a) {
  const auto copied = [&](const Value& sequence) {
    values_.charge(sequence.as_list());
    return ValueList(sequence.as_list());
  };
  if (name == "collections.OrderedDict" || name == "builtins.dict") {
    if (a.empty()) return values_.new_dict();
    if (a[0].is_dict()) return a[0];
    if (is_sequence(a[0])) return pairs_to_dict(a[0]);
  }
  if (name == "collections.defaultdict") {
    if (a.size() < 2) return values_.new_dict();
    if (a[1].is_dict()) return a[1];
    if (is_sequence(a[1])) return pairs_to_dict(a[1]);
  }
  if (name == "collections.Counter") {
    if (a.empty()) return values_.new_dict();
    if (a[0].is_dict()) return a[0];
  }
  static const std::unordered_map<std::string_view, ListKind> lists{
      {"builtins.list", ListKind::kList},
      {"builtins.set", ListKind::kSet},
      {"builtins.frozenset", ListKind::kFrozenSet},
      {"collections.deque", ListKind::kDeque}};
  if (const auto list = lists.find(name); list != lists.end()) {
    const bool limited = list->second == ListKind::kDeque && a.size() > 1 && a[1].is_int();
    const int64_t limit = limited ? a[1].as_int() : -1;
    if (a.empty()) return values_.new_list({}, list->second);
    if (is_sequence(a[0])) return values_.new_list(copied(a[0]), list->second, limit);
  }
  if (name == "torch.Size" || name == "builtins.tuple") {
    if (a.empty()) return values_.new_tuple({});
    if (is_sequence(a[0])) return values_.new_tuple(copied(a[0]));
  }
  return std::nullopt;
}

std::optional<Value> PickleGlobals::bytes_value(const std::string& name, const ValueList& a) {
  if (name == "_codecs.encode" && !a.empty() && a[0].is_string()) {
    return latin1_bytes(a[0].as_string());
  }
  if (name == "builtins.bytes" || name == "builtins.bytearray") {
    if (a.empty()) return Value(Value::Bytes{});
    if (a[0].is_bytes()) return a[0];
    if (a.size() > 1 && a[0].is_string()) return latin1_bytes(a[0].as_string());
  }
  return std::nullopt;
}

std::optional<Value> PickleGlobals::object_value(const std::string& name, const ValueList& a) {
  if (name == "copyreg._reconstructor" && !a.empty() && !global_name(a[0]).empty()) {
    return values_.new_object(global_name(a[0]), {a.begin() + 1, a.end()});  // object.__new__
  }
  if (name == "numpy.core.multiarray.scalar" && a.size() >= 2) return numpy_scalar(a[0], a[1]);
  if (name == "numpy.core.multiarray._reconstruct") return values_.new_object("numpy.ndarray", {});
  if (name == "numpy.core.numeric._frombuffer" && a.size() >= 4 && a[3].is_string()) {
    return numpy_array(a[1], a[2], a[3].as_string() == "F", a[0]);
  }
  return std::nullopt;
}

std::optional<Value> PickleGlobals::known(const std::string& name, const ValueList& a) {
  if (auto found = torch_value(name, a)) return found;
  if (auto found = container_value(name, a)) return found;
  if (auto found = bytes_value(name, a)) return found;
  return object_value(name, a);
}

Value PickleGlobals::call(const std::string& name, const Value& arguments) {
  if (!arguments.is_tuple()) text_.fail("a call without arguments");
  values_.charge(arguments.as_list());
  values_.charge_bytes(name.size());
  if (!name.empty()) {
    if (auto found = known(name, arguments.as_list())) return *found;
  }
  return values_.new_object(name.empty() ? "the result of a call" : name, arguments.as_list());
}

}  // namespace seg
