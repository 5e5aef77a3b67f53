#include "segcore/io/unpickle.hpp"

#include <ATen/ATen.h>
#include <c10/core/TensorImpl.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <unordered_map>
#include <unordered_set>

#include "registry/error.hpp"
#include "segcore/io/byte_order.hpp"
#include "segcore/io/dtypes.hpp"
#include "segcore/io/numpy_array.hpp"

namespace seg {
namespace {

/// Deeper nesting is no checkpoint, and would exhaust the stack when it is destroyed.
constexpr size_t kDeepestNesting = 1000;
/// A short opcode may copy a long string out of the memo; all such copies together stay below this
/// many times the pickle's size.
constexpr uint64_t kCopiesPerByte = 64, kCopiesAlways = 16 << 20;

/// The names under which a global is known here: modules were renamed over the years.
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

/// The items of a container that is still being filled. The unpickler made it, so it is not const.
ValueList& filling_list(const Value& v) { return const_cast<ValueList&>(v.as_list()); }
ValueDict& filling_dict(const Value& v) { return const_cast<ValueDict&>(v.as_dict()); }

class Unpickler {
 public:
  Unpickler(std::string_view source, const StorageSource& storages)
      : text_(source),
        storages_(storages),
        copies_left_(kCopiesAlways + kCopiesPerByte * source.size()) {}
  ~Unpickler();
  Unpickler(const Unpickler&) = delete;
  Unpickler& operator=(const Unpickler&) = delete;

  Unpickled run();

 private:
  template <class... T>
  [[noreturn]] void fail(const T&... parts) const {
    throw CheckpointError(text("its pickle is damaged at byte ", opcode_at_, ": ", parts...));
  }

  // The text.
  uint8_t byte() { return static_cast<uint8_t>(bytes(1)[0]); }
  std::string_view bytes(uint64_t size) {
    if (size > text_.size() - at_) fail("cut short");
    const auto out = text_.substr(at_, size);
    at_ += size;
    return out;
  }
  std::string_view line();
  uint64_t number(int size) {
    const auto raw = bytes(static_cast<uint64_t>(size));
    uint64_t out = 0;
    for (int i = 0; i < size; ++i) {
      out |= static_cast<uint64_t>(static_cast<uint8_t>(raw[static_cast<size_t>(i)])) << (8 * i);
    }
    return out;
  }
  int64_t decimal(std::string_view digits) const;
  std::string quoted(std::string_view literal) const;
  std::string raw_unicode(std::string_view escaped) const;

  // The stack.
  void push(Value v) { stack_.push_back(std::move(v)); }
  Value pop() {
    if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) fail("its stack is empty");
    Value out = std::move(stack_.back());
    stack_.pop_back();
    return out;
  }
  Value& top() {
    if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) fail("its stack is empty");
    return stack_.back();
  }
  ValueList pop_to_mark() {
    if (marks_.empty()) fail("there is no mark");
    const auto begin = stack_.begin() + static_cast<ptrdiff_t>(marks_.back());
    ValueList out(std::make_move_iterator(begin), std::make_move_iterator(stack_.end()));
    stack_.erase(begin, stack_.end());
    marks_.pop_back();
    return out;
  }

  // Values. Containers are remembered until the end, when cycles are looked for.
  Value container(Value v) {
    containers_.push_back(v);
    return v;
  }
  Value new_tuple(ValueList items) { return container(Value::tuple(std::move(items))); }
  Value new_list(ValueList items) { return container(Value(std::move(items))); }
  Value new_dict() { return container(Value::dict()); }
  Value new_object(std::string type, ValueList arguments) {
    return container(
        Value(OpaqueObject{std::move(type), std::make_shared<ValueList>(std::move(arguments)),
                           std::make_shared<Value>()}));
  }
  static Value global(std::string name) { return Value(OpaqueObject{std::move(name), {}, {}}); }
  /// The name of a global on the stack, "" for anything else.
  static std::string global_name(const Value& v) {
    if (!v.is_opaque() || v.as_opaque().arguments) return {};
    return v.as_opaque().type;
  }
  Value large_integer(std::string_view little_endian);

  void append(const Value& to, Value item);
  void set_item(const Value& to, Value key, Value value);
  /// What is under an array that was rebuilt in place.
  static Value resolved(const Value& v) {
    if (v.is_opaque() && v.as_opaque().type == "numpy.ndarray" && v.as_opaque().state &&
        !v.as_opaque().state->is_none()) {
      return *v.as_opaque().state;
    }
    return v;
  }
  void memoize(uint64_t place, const Value& v) {
    charge(v);
    memo_.insert_or_assign(place, v);
  }
  void charge(const Value& v) {
    const size_t size = v.is_string()   ? v.as_string().size()
                        : v.is_bytes()  ? v.as_bytes().size()
                        : v.is_opaque() ? v.as_opaque().type.size()
                                        : 0;
    charge_bytes(size);
  }
  void charge(const ValueList& copied) {
    charge_bytes(copied.size() * sizeof(Value));
    for (const Value& v : copied) charge(v);
  }
  void charge_bytes(uint64_t size) {
    if (size > copies_left_) fail("it repeats one string too often");
    copies_left_ -= size;
  }
  void get(uint64_t place) {
    const auto found = memo_.find(place);
    if (found == memo_.end()) fail("nothing is remembered under ", place);
    charge(found->second);
    push(resolved(found->second));
  }

  // Meaning.
  Value call(const std::string& name, const Value& arguments);
  std::optional<Value> call_known(const std::string& name, const ValueList& arguments);
  Value rebuild_tensor(const ValueList& arguments, bool third_version);
  Value persistent(const Value& id);
  void build();
  void step(uint8_t opcode);
  void new_instance(const Value& type, const Value& arguments);

  /// Breaks cycles and refuses deep nesting below `root`.
  void tidy(Value& root);

  std::string_view text_;
  const StorageSource& storages_;
  size_t at_ = 0, opcode_at_ = 0;
  bool done_ = false;
  std::vector<Value> stack_;
  std::vector<size_t> marks_;
  std::unordered_map<uint64_t, Value> memo_;
  uint64_t copies_left_;
  std::vector<Value> containers_;
  /// Where the keys of large dicts stand, so that a repeated key replaces the earlier one.
  std::unordered_map<const ValueDict*, std::unordered_map<std::string, size_t>> key_places_;
  /// Containers that `tidy` reached.
  std::unordered_set<const void*> reached_;
};

const void* identity(const Value& v) {
  if (v.is_list() || v.is_tuple()) return &v.as_list();
  if (v.is_dict()) return &v.as_dict();
  if (v.is_opaque()) return v.as_opaque().state.get();
  return nullptr;
}

Unpickler::~Unpickler() {
  // Whatever the result does not hold is emptied one by one: no cycle leaks, and no chain of
  // nested containers is destroyed recursively, since each is still held here.
  for (const Value& v : containers_) {
    if (reached_.count(identity(v))) continue;
    if (v.is_list() || v.is_tuple()) {
      filling_list(v).clear();
    } else if (v.is_dict()) {
      filling_dict(v).clear();
    } else if (v.is_opaque()) {
      if (v.as_opaque().arguments) v.as_opaque().arguments->clear();
      if (v.as_opaque().state) *v.as_opaque().state = Value();
    }
  }
}

std::string_view Unpickler::line() {
  const size_t end = text_.find('\n', at_);
  if (end == std::string_view::npos) fail("cut short");
  const auto out = text_.substr(at_, end - at_);
  at_ = end + 1;
  return out;
}

int64_t Unpickler::decimal(std::string_view digits) const {
  int64_t out = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out);
  if (error != std::errc() || end != digits.data() + digits.size()) fail("a number is expected");
  return out;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/// A Python string literal of protocol 0: 'it\'s\n'.
std::string Unpickler::quoted(std::string_view literal) const {
  if (literal.size() < 2 || (literal[0] != '\'' && literal[0] != '"') ||
      literal.back() != literal[0]) {
    fail("a quoted string is expected");
  }
  literal = literal.substr(1, literal.size() - 2);
  std::string out;
  for (size_t i = 0; i < literal.size(); ++i) {
    if (literal[i] != '\\' || i + 1 >= literal.size()) {
      out.push_back(literal[i]);
      continue;
    }
    const char c = literal[++i];
    switch (c) {
      case 'n':
        out.push_back('\n');
        break;
      case 'r':
        out.push_back('\r');
        break;
      case 't':
        out.push_back('\t');
        break;
      case 'a':
        out.push_back('\a');
        break;
      case 'b':
        out.push_back('\b');
        break;
      case 'f':
        out.push_back('\f');
        break;
      case 'v':
        out.push_back('\v');
        break;
      case '0':
        out.push_back('\0');
        break;
      case 'x': {
        if (i + 2 >= literal.size()) fail("a string escape is cut short");
        const int high = hex_digit(literal[i + 1]), low = hex_digit(literal[i + 2]);
        if (high < 0 || low < 0) fail("a wrong string escape");
        out.push_back(static_cast<char>(high << 4 | low));
        i += 2;
        break;
      }
      default:
        out.push_back(c);
    }
  }
  return out;
}

void append_code_point(std::string& out, uint32_t c) {
  if (c < 0x80) {
    out.push_back(static_cast<char>(c));
    return;
  }
  const int tails = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  constexpr uint8_t kLead[] = {0, 0xc0, 0xe0, 0xf0};
  out.push_back(static_cast<char>(kLead[tails] | (c >> (6 * tails) & 0x3f)));
  for (int i = tails; i-- > 0;) out.push_back(static_cast<char>(0x80 | (c >> (6 * i) & 0x3f)));
}

/// Protocol 0 writes characters above 255 as \uXXXX or \UXXXXXXXX and the others as Latin-1.
std::string Unpickler::raw_unicode(std::string_view escaped) const {
  std::string out;
  for (size_t i = 0; i < escaped.size(); ++i) {
    const char c = escaped[i];
    const size_t digits = i + 1 < escaped.size() && c == '\\' ? (escaped[i + 1] == 'u'   ? 4
                                                                 : escaped[i + 1] == 'U' ? 8
                                                                                         : 0)
                                                              : 0;
    if (digits == 0) {
      append_code_point(out, static_cast<uint8_t>(c));
      continue;
    }
    if (i + 1 + digits >= escaped.size()) fail("a string escape is cut short");
    uint32_t code = 0;
    for (size_t k = 0; k < digits; ++k) {
      const int digit = hex_digit(escaped[i + 2 + k]);
      if (digit < 0) fail("a wrong string escape");
      code = code << 4 | static_cast<uint32_t>(digit);
    }
    append_code_point(out, code);
    i += 1 + digits;
  }
  return out;
}

Value Unpickler::large_integer(std::string_view little_endian) {
  if (little_endian.size() > 4096) fail("an integer of ", little_endian.size(), " bytes");
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (size_t i = little_endian.size(); i-- > 0;) {
    const auto b = static_cast<uint8_t>(little_endian[i]);
    hex += {kDigits[b >> 4], kDigits[b & 15]};
  }
  return new_object(std::string(kLargeInteger), {Value(hex)});
}

/// What a key of a dict is compared by, "" for keys that are not (tuples).
std::string key_text(const Value& key) {
  if (key.is_string()) return "s" + key.as_string();
  if (key.is_bytes()) return "b" + key.as_bytes();
  if (key.is_int() || key.is_bool()) return text("i", key.as_int());
  if (key.is_none()) return "n";
  if (key.is_float()) {
    const double v = key.as_float();
    if (v == std::floor(v) && std::abs(v) < 1e15) return text("i", static_cast<int64_t>(v));
    return text("f", v);
  }
  return {};
}

void Unpickler::set_item(const Value& to, Value key, Value value) {
  if (to.is_opaque() && to.as_opaque().state) {  // a subclass of dict
    Value& state = *to.as_opaque().state;
    if (state.is_none()) state = new_dict();
    if (!state.is_dict()) fail("items are set on ", to.kind_text());
    set_item(Value(state), std::move(key), std::move(value));
    return;
  }
  if (!to.is_dict()) fail("items are set on ", to.kind_text());
  ValueDict& items = filling_dict(to);
  const std::string shown = key_text(key);
  if (!shown.empty()) {
    auto [place, fresh] = key_places_[&items].emplace(shown, items.size());
    if (!fresh) {
      items[place->second].second = std::move(value);
      return;
    }
  }
  items.emplace_back(std::move(key), std::move(value));
}

void Unpickler::append(const Value& to, Value item) {
  if (to.is_opaque() && to.as_opaque().state) {  // a subclass of list
    Value& state = *to.as_opaque().state;
    if (state.is_none()) state = new_list({});
    if (!state.is_list()) fail("items are appended to ", to.kind_text());
    filling_list(state).push_back(std::move(item));
    return;
  }
  if (!to.is_list()) fail("items are appended to ", to.kind_text());
  filling_list(to).push_back(std::move(item));
}

/// torch._utils._rebuild_tensor(storage, offset, size, stride, ...)
Value Unpickler::rebuild_tensor(const ValueList& arguments, bool third_version) {
  const size_t wanted = third_version ? 7 : 4;
  if (arguments.size() < wanted) fail("a tensor with ", arguments.size(), " arguments");
  const int64_t offset = arguments[1].as_int();
  std::vector<int64_t> sizes, strides;
  for (const Value& v : arguments[2].as_list()) sizes.push_back(v.as_int());
  for (const Value& v : arguments[3].as_list()) strides.push_back(v.as_int());
  if (sizes.size() != strides.size() || sizes.size() > 64) {
    fail("a tensor with ", sizes.size(), " sizes and ", strides.size(), " strides");
  }
  if (arguments[0].is_none()) return {};  // only the structure is wanted
  const at::Tensor& storage = arguments[0].as_tensor();
  if (storage.dim() != 1 || (storage.numel() > 1 && storage.stride(0) != 1)) {
    fail("a tensor made of ", arguments[0].kind_text());
  }
  at::ScalarType dtype = storage.scalar_type();
  if (third_version) {
    const std::string name = global_name(arguments[6]);
    const auto named = dtype_of_name(name.substr(name.rfind('.') + 1));
    if (!named) fail("a tensor of type '", name, "'");
    dtype = *named;
  }
  const auto element = static_cast<int64_t>(c10::elementSize(dtype));
  const int64_t begin = storage.storage_offset() * static_cast<int64_t>(storage.element_size());
  const int64_t available =
      storage.numel() * static_cast<int64_t>(storage.element_size()) / element;
  // The last element must lie inside the storage, and a view with stride 0 must not pretend to be
  // much larger than the file.
  int64_t last = offset, numel = 1;
  const auto address = reinterpret_cast<uintptr_t>(storage.const_data_ptr());
  bool wrong = offset < 0 || begin % element != 0 ||
               (third_version && address % static_cast<uintptr_t>(element) != 0);
  for (size_t i = 0; i < sizes.size() && !wrong; ++i) {
    int64_t reach = 0;
    wrong = sizes[i] < 0 || strides[i] < 0 || __builtin_mul_overflow(numel, sizes[i], &numel) ||
            __builtin_mul_overflow(sizes[i] > 0 ? sizes[i] - 1 : 0, strides[i], &reach) ||
            __builtin_add_overflow(last, reach, &last);
  }
  wrong = wrong || offset > available || (numel > 0 && last >= available);
  if (wrong) {
    fail("a tensor of shape [", join(sizes, ", "), "], strides [", join(strides, ", "),
         "] and offset ", offset, " does not fit its storage of ", available, " elements");
  }
  constexpr int64_t kRepeats = 64, kRepeatsAlways = 1 << 20;
  if (numel > std::max(kRepeatsAlways, available) &&
      numel / kRepeats > std::max<int64_t>(available, 1)) {
    fail("a tensor of shape [", join(sizes, ", "), "] repeats a storage of ", available,
         " elements");
  }
  at::Tensor out = at::detail::make_tensor<c10::TensorImpl>(
      c10::Storage(storage.storage()), c10::DispatchKeySet(c10::DispatchKey::CPU),
      c10::scalarTypeToTypeMeta(dtype));
  if (third_version && dtype == at::kBool && available > 0) {
    normalize_bools(static_cast<char*>(storage.mutable_data_ptr()), static_cast<size_t>(available));
  }
  out.unsafeGetTensorImpl()->set_sizes_and_strides(sizes, strides, begin / element + offset);
  // Last, for views that PyTorch turns around only when they are read: {'neg': True}.
  const auto is_set = [&](const char* name) {
    const Value* metadata = arguments.size() > wanted ? &arguments.back() : nullptr;
    const Value* flag = metadata && metadata->is_dict() ? metadata->find(name) : nullptr;
    return flag && flag->is_bool() && flag->as_bool();
  };
  try {
    if (is_set("conj")) out = at::conj_physical(out);
    if (is_set("neg")) out = at::neg(out);
  } catch (const c10::Error&) {
    fail("a negated or conjugated tensor of type ", dtype_name(dtype));
  }
  return out;
}

/// ('storage', torch.FloatStorage, key, location, numel[, view]): tensors are made of these.
Value Unpickler::persistent(const Value& id) {
  if (!id.is_tuple()) fail("an external object of unknown kind");
  const ValueList& items = id.as_list();
  if (!items.empty() && items[0].is_string() && items[0].as_string() == "module" &&
      items.size() > 1) {
    return items[1];  // a class with its source text, in files of long ago
  }
  if (items.size() < 5 || !items[0].is_string() || items[0].as_string() != "storage") {
    fail("an external object of unknown kind");
  }
  const std::string type = global_name(items[1]);
  const auto dtype = dtype_of_storage(type.substr(type.rfind('.') + 1));
  if (!dtype) fail("a storage of type '", type, "'");
  StorageReference reference;
  reference.key = items[2].is_string() ? items[2].as_string() : text(items[2].as_int());
  reference.dtype = *dtype;
  reference.numel = items[4].as_int();
  if (reference.numel < 0) fail("a storage of ", reference.numel, " elements");
  const at::Tensor storage = storages_(reference);
  if (!storage.defined()) return {};
  if (items.size() > 5 && items[5].is_tuple()) {  // (view key, offset, numel)
    const ValueList& view = items[5].as_list();
    if (view.size() < 3) fail("a view of a storage");
    const int64_t offset = view[1].as_int(), numel = view[2].as_int();
    if (offset < 0 || numel < 0 || offset > storage.numel() || numel > storage.numel() - offset) {
      fail("a view of ", numel, " elements at ", offset, " of a storage of ", storage.numel());
    }
    return storage.narrow(0, offset, numel);
  }
  return storage;
}

std::optional<Value> Unpickler::call_known(const std::string& name, const ValueList& a) {
  auto pairs_to_dict = [&](const Value& pairs) {
    const Value out = new_dict();
    for (const Value& pair : pairs.as_list()) {
      if (pair.is_list() || pair.is_tuple()) charge(pair.as_list());
      if (!(pair.is_list() || pair.is_tuple()) || pair.as_list().size() != 2) {
        fail("a dict of something else than pairs");
      }
      set_item(out, pair.as_list()[0], pair.as_list()[1]);
    }
    return out;
  };
  auto is_sequence = [](const Value& v) { return v.is_list() || v.is_tuple(); };
  auto copied = [&](const Value& sequence) {
    charge(sequence.as_list());
    return ValueList(sequence.as_list());
  };
  if (name == "torch._utils._rebuild_tensor" || name == "torch._utils._rebuild_tensor_v2") {
    return rebuild_tensor(a, false);
  }
  if (name == "torch._utils._rebuild_tensor_v3") return rebuild_tensor(a, true);
  if (name == "torch._utils._rebuild_parameter" ||
      name == "torch._utils._rebuild_parameter_with_state" ||
      name == "torch._utils._rebuild_device_tensor_from_numpy" ||
      name == "torch._utils._rebuild_device_tensor_from_cpu_tensor") {
    if (a.empty()) fail("a parameter without data");
    return a[0];
  }
  if (name == "torch._tensor._rebuild_from_type_v2" && a.size() >= 3 && a[2].is_tuple()) {
    // (function, type, arguments, state). Calls inside calls are bounded by their tuples' nesting.
    const std::string inner = global_name(a[0]);
    if (inner.rfind("torch._utils._rebuild_tensor", 0) == 0 ||
        inner.rfind("torch._utils._rebuild_parameter", 0) == 0) {
      return call_known(inner, a[2].as_list());
    }
    return std::nullopt;
  }
  if (name == "collections.OrderedDict" || name == "builtins.dict") {
    if (a.empty()) return new_dict();
    if (a[0].is_dict()) return a[0];
    if (is_sequence(a[0])) return pairs_to_dict(a[0]);
  }
  if (name == "collections.defaultdict") {
    if (a.size() < 2) return new_dict();
    if (a[1].is_dict()) return a[1];
    if (is_sequence(a[1])) return pairs_to_dict(a[1]);
  }
  if (name == "collections.Counter") {
    if (a.empty()) return new_dict();
    if (a[0].is_dict()) return a[0];
  }
  if (name == "collections.deque" || name == "builtins.set" || name == "builtins.frozenset" ||
      name == "builtins.list") {
    if (a.empty()) return new_list({});
    if (is_sequence(a[0])) return new_list(copied(a[0]));
  }
  if (name == "torch.Size" || name == "builtins.tuple") {
    if (a.empty()) return new_tuple({});
    if (is_sequence(a[0])) return new_tuple(copied(a[0]));
  }
  if (name == "torch.device" && !a.empty() && a[0].is_string()) {
    return a.size() > 1 && a[1].is_int() ? Value(text(a[0].as_string(), ":", a[1].as_int())) : a[0];
  }
  if (name == "_codecs.encode" && !a.empty() && a[0].is_string()) {
    // Protocol 2 writes bytes as a string of characters below 256.
    const std::string& utf8 = a[0].as_string();
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
  if (name == "builtins.bytes" || name == "builtins.bytearray") {
    if (a.empty()) return Value(Value::Bytes{});
    if (a[0].is_bytes()) return a[0];
    if (a.size() > 1 && a[0].is_string()) return call_known("_codecs.encode", a);
  }
  if (name == "numpy.core.multiarray.scalar" && a.size() >= 2) {
    return numpy_scalar(a[0], a[1]);
  }
  if (name == "copyreg._reconstructor" && !a.empty() && !global_name(a[0]).empty()) {
    return new_object(global_name(a[0]), {a.begin() + 1, a.end()});  // object.__new__
  }
  if (name == "numpy.core.multiarray._reconstruct") return new_object("numpy.ndarray", {});
  if (name == "numpy.core.numeric._frombuffer" && a.size() >= 4 && a[3].is_string()) {
    return numpy_array(a[1], a[2], a[3].as_string() == "F", a[0]);
  }
  return std::nullopt;
}

Value Unpickler::call(const std::string& name, const Value& arguments) {
  if (!arguments.is_tuple()) fail("a call without arguments");
  charge(arguments.as_list());
  charge_bytes(name.size());
  if (!name.empty()) {
    if (auto known = call_known(name, arguments.as_list())) return *known;
  }
  return new_object(name.empty() ? "the result of a call" : name, arguments.as_list());
}

void Unpickler::build() {
  const Value state = pop();
  Value& object = top();
  if (!object.is_opaque() || !object.as_opaque().state) return;  // attributes of a dict, a tensor
  Value& kept = *object.as_opaque().state;
  if (object.as_opaque().type == "numpy.ndarray" && state.is_tuple() &&
      state.as_list().size() >= 5) {
    // (version, shape, dtype, is Fortran order, data)
    const ValueList& items = state.as_list();
    charge(items[4]);
    const bool fortran = (items[3].is_bool() || items[3].is_int()) && items[3].as_int() != 0;
    if (auto array = numpy_array(items[2], items[1], fortran, items[4])) {
      kept = *array;
      object = Value(*array);
      return;
    }
  }
  if (kept.is_none()) {
    kept = state;
  } else if (kept.is_dict() && state.is_dict() && &kept.as_dict() != &state.as_dict()) {
    for (const auto& [key, value] : state.as_dict()) {
      charge(ValueList{key, value});
    }
    for (const auto& [key, value] : state.as_dict()) set_item(Value(kept), key, value);
  } else {
    kept = new_tuple({kept, state});
  }
}

void Unpickler::new_instance(const Value& type, const Value& arguments) {
  push(call(global_name(type), arguments));
}

void Unpickler::step(uint8_t opcode) {
  switch (opcode) {
    case '(':
      marks_.push_back(stack_.size());
      break;
    case '.':
      done_ = true;
      break;
    case '0':
      if (!marks_.empty() && marks_.back() == stack_.size()) {
        marks_.pop_back();
      } else {
        pop();
      }
      break;
    case '1':
      pop_to_mark();
      break;
    case '2': {
      const Value copy = top();
      charge(copy);
      push(copy);
      break;
    }
    case 'N':
      push({});
      break;
    case 0x88:
      push(true);
      break;
    case 0x89:
      push(false);
      break;
    // Numbers.
    case 'I': {
      const auto digits = line();
      if (digits == "00" || digits == "01") {
        push(digits == "01");
      } else {
        push(decimal(digits));
      }
      break;
    }
    case 'L': {
      auto digits = line();
      if (!digits.empty() && digits.back() == 'L') digits.remove_suffix(1);
      constexpr size_t kSurelyFits = 18;
      if (digits.size() > kSurelyFits + 1) {
        int64_t v = 0;
        const char* end = digits.data() + digits.size();
        const auto [stop, error] = std::from_chars(digits.data(), end, v);
        if (error == std::errc::result_out_of_range && stop == end) {
          push(new_object(std::string(kLargeInteger), {Value(std::string(digits))}));
          break;
        }
      }
      push(decimal(digits));
      break;
    }
    case 'J':
      push(static_cast<int64_t>(static_cast<int32_t>(number(4))));
      break;
    case 'K':
      push(static_cast<int64_t>(number(1)));
      break;
    case 'M':
      push(static_cast<int64_t>(number(2)));
      break;
    case 0x8a:
    case 0x8b: {
      const auto raw = bytes(number(opcode == 0x8a ? 1 : 4));
      if (raw.size() > 8) {
        push(large_integer(raw));
        break;
      }
      uint64_t v = !raw.empty() && (raw.back() & 0x80) ? ~uint64_t{0} : 0;
      for (size_t i = raw.size(); i-- > 0;) v = v << 8 | static_cast<uint8_t>(raw[i]);
      push(static_cast<int64_t>(v));
      break;
    }
    case 'F': {
      const std::string digits(line());
      char* end = nullptr;
      const double v = std::strtod(digits.c_str(), &end);
      if (end != digits.c_str() + digits.size() || digits.empty()) fail("a number is expected");
      push(v);
      break;
    }
    case 'G': {
      uint64_t bits = 0;  // big endian
      for (const char c : bytes(8)) bits = bits << 8 | static_cast<uint8_t>(c);
      double v = 0;
      std::memcpy(&v, &bits, sizeof(v));
      push(v);
      break;
    }
    // Strings.
    case 'S':
      push(quoted(line()));
      break;
    case 'V':
      push(raw_unicode(line()));
      break;
    case 'T':
    case 'X':
      push(std::string(bytes(number(4))));
      break;
    case 'U':
    case 0x8c:
      push(std::string(bytes(number(1))));
      break;
    case 0x8d:
      push(std::string(bytes(number(8))));
      break;
    case 'C':
      push(Value::Bytes{std::string(bytes(number(1)))});
      break;
    case 'B':
      push(Value::Bytes{std::string(bytes(number(4)))});
      break;
    case 0x8e:
    case 0x96:
      push(Value::Bytes{std::string(bytes(number(8)))});
      break;
    case 0x98:
      break;  // a buffer becomes read-only
    // Containers.
    case ')':
      push(new_tuple({}));
      break;
    case 't':
      push(new_tuple(pop_to_mark()));
      break;
    case 0x85:
    case 0x86:
    case 0x87: {
      ValueList items(opcode - 0x84);
      for (size_t i = items.size(); i-- > 0;) items[i] = pop();
      push(new_tuple(std::move(items)));
      break;
    }
    case ']':
    case 0x8f:
      push(new_list({}));
      break;
    case 'l':
    case 0x91:
      push(new_list(pop_to_mark()));
      break;
    case 'a': {
      Value item = pop();
      append(top(), std::move(item));
      break;
    }
    case 'e':
    case 0x90: {
      ValueList items = pop_to_mark();
      const Value to = top();
      for (Value& item : items) append(to, std::move(item));
      break;
    }
    case '}':
      push(new_dict());
      break;
    case 'd':
    case 'u': {
      ValueList items = pop_to_mark();
      if (items.size() % 2 != 0) fail("a dict with a key without a value");
      if (opcode == 'd') push(new_dict());
      const Value to = top();
      for (size_t i = 0; i < items.size(); i += 2) {
        set_item(to, std::move(items[i]), std::move(items[i + 1]));
      }
      break;
    }
    case 's': {
      Value value = pop();
      Value key = pop();
      set_item(Value(top()), std::move(key), std::move(value));
      break;
    }
    // The memo.
    case 'p': {
      const int64_t place = decimal(line());
      memoize(static_cast<uint64_t>(place), top());
      break;
    }
    case 'q': {
      const uint64_t place = number(1);
      memoize(place, top());
      break;
    }
    case 'r': {
      const uint64_t place = number(4);
      memoize(place, top());
      break;
    }
    case 0x94:
      memoize(memo_.size(), top());
      break;
    case 'g':
      get(static_cast<uint64_t>(decimal(line())));
      break;
    case 'h':
      get(number(1));
      break;
    case 'j':
      get(number(4));
      break;
    // Objects.
    case 'c': {
      const auto module = line();
      const auto name = line();
      push(global(canonical_name(module, name)));
      break;
    }
    case 0x93: {
      const Value name = pop();
      const Value module = pop();
      push(global(canonical_name(module.as_string(), name.as_string())));
      break;
    }
    case 'R':
    case 0x81: {
      const Value arguments = pop();
      const Value type = pop();
      new_instance(type, arguments);
      break;
    }
    case 0x92: {
      const Value keywords = pop();
      const Value arguments = pop();
      const Value type = pop();
      if (keywords.is_dict() && keywords.as_dict().empty()) {
        new_instance(type, arguments);
      } else {
        push(new_object(global_name(type), {arguments, keywords}));
      }
      break;
    }
    case 'o': {
      ValueList items = pop_to_mark();
      if (items.empty()) fail("an object without a class");
      const Value type = items[0];
      items.erase(items.begin());
      new_instance(type, new_tuple(std::move(items)));
      break;
    }
    case 'i': {
      const auto module = line();
      const auto name = line();
      new_instance(global(canonical_name(module, name)), new_tuple(pop_to_mark()));
      break;
    }
    case 'b':
      build();
      break;
    case 'Q':
      push(persistent(pop()));
      break;
    // Protocol.
    case 0x80:
      if (const uint8_t version = byte(); version > 5) fail("pickle protocol ", int{version});
      break;
    case 0x95:
      if (number(8) > text_.size() - at_) fail("cut short");
      break;
    default:
      fail("unknown or unsupported opcode ", int{opcode});
  }
}

void Unpickler::tidy(Value& root) {
  struct Frame {
    Value node;
    size_t next = 0;    // child to visit
    size_t height = 0;  // of the children visited so far
  };
  auto child = [](const Value& node, size_t i) -> Value* {
    if (node.is_list() || node.is_tuple()) {
      ValueList& items = filling_list(node);
      return i < items.size() ? &items[i] : nullptr;
    }
    if (node.is_dict()) {
      ValueDict& items = filling_dict(node);
      if (i / 2 >= items.size()) return nullptr;
      return i % 2 == 0 ? &items[i / 2].first : &items[i / 2].second;
    }
    const OpaqueObject& object = node.as_opaque();
    const size_t arguments = object.arguments ? object.arguments->size() : 0;
    if (i < arguments) return &(*object.arguments)[i];
    return i == arguments ? object.state.get() : nullptr;
  };
  root = resolved(root);
  if (!identity(root)) return;
  std::unordered_map<const void*, size_t> heights;  // of containers that are done
  std::unordered_set<const void*> open;
  std::vector<Frame> path;
  path.push_back({root});
  open.insert(identity(root));
  while (!path.empty()) {
    Value* next = child(path.back().node, path.back().next++);
    if (!next) {
      const void* id = identity(path.back().node);
      const size_t height = path.back().height + 1;
      if (height > kDeepestNesting) fail("nested deeper than ", kDeepestNesting);
      heights.emplace(id, height);
      open.erase(id);
      path.pop_back();
      if (!path.empty()) path.back().height = std::max(path.back().height, height);
      continue;
    }
    *next = resolved(*next);
    const void* id = identity(*next);
    if (!id) continue;
    if (open.count(id)) {
      *next = Value(OpaqueObject{"reference cycle", {}, {}});
    } else if (const auto known = heights.find(id); known != heights.end()) {
      path.back().height = std::max(path.back().height, known->second);
    } else {
      open.insert(id);
      const Value node = *next;
      path.push_back({node});
    }
  }
  for (const auto& [id, height] : heights) reached_.insert(id);
}

Unpickled Unpickler::run() {
  while (!done_) {
    opcode_at_ = at_;
    step(byte());
  }
  Unpickled out{pop(), at_};
  tidy(out.value);
  return out;
}

}  // namespace

Unpickled unpickle(std::string_view text, const StorageSource& storages) {
  Unpickler unpickler(text, storages);
  return unpickler.run();
}

}  // namespace seg
