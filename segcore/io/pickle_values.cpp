#include "segcore/io/pickle_values.hpp"

#include <algorithm>
#include <cmath>

#include "segcore/io/unpickle.hpp"

namespace seg {
namespace {

/// Deeper nesting occurs in no checkpoint, and would exhaust the stack when it is destroyed.
constexpr size_t kDeepestNesting = 1000;
/// A short opcode may copy a long string out of the memo; all such copies together stay below this
/// many times the pickle's size.
constexpr uint64_t kCopiesPerByte = 64, kCopiesAlways = 16 << 20;

/// The items of a container that is still being filled. PickleValues made it, so it is not const.
ValueList& filling_list(const Value& v) { return const_cast<ValueList&>(v.as_list()); }
ValueDict& filling_dict(const Value& v) { return const_cast<ValueDict&>(v.as_dict()); }

const void* identity(const Value& v) {
  if (v.is_list() || v.is_tuple()) return &v.as_list();
  if (v.is_dict()) return &v.as_dict();
  if (v.is_opaque()) return v.as_opaque().state.get();
  return nullptr;
}

/// Keys of a dict are equal where these texts are; "" for keys that are not compared (tuples).
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

/// Visits everything below a value without recursion, which deep nesting would exhaust.
class CycleBreaker {
 public:
  explicit CycleBreaker(const PickleText& text) : text_(text) {}

  void run(Value& root) {
    root = resolved(root);
    if (!identity(root)) return;
    enter(root);
    while (!path_.empty()) {
      Value* next = child(path_.back().node, path_.back().next++);
      if (next) {
        visit(*next);
      } else {
        leave();
      }
    }
  }
  const std::unordered_map<const void*, size_t>& heights() const { return heights_; }

 private:
  struct Frame {
    Value node;
    size_t next = 0;    // child to visit
    size_t height = 0;  // of the children visited so far
  };

  /// Child `i` of a container, nullptr after the last.
  static Value* child(const Value& node, size_t i) {
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
  }
  void enter(const Value& node) {
    open_.insert(identity(node));
    path_.push_back({node});
  }
  void visit(Value& next) {
    next = resolved(next);
    const void* id = identity(next);
    if (!id) return;
    if (open_.count(id)) {
      next = Value(OpaqueObject{"reference cycle", {}, {}});
    } else if (const auto known = heights_.find(id); known != heights_.end()) {
      path_.back().height = std::max(path_.back().height, known->second);
    } else {
      enter(Value(next));
    }
  }
  void leave() {
    const void* id = identity(path_.back().node);
    const size_t height = path_.back().height + 1;
    if (height > kDeepestNesting) text_.fail("nested deeper than ", kDeepestNesting);
    heights_.emplace(id, height);
    open_.erase(id);
    path_.pop_back();
    if (!path_.empty()) path_.back().height = std::max(path_.back().height, height);
  }

  const PickleText& text_;
  std::unordered_map<const void*, size_t> heights_;  // of containers that are done
  std::unordered_set<const void*> open_;
  std::vector<Frame> path_;
};

}  // namespace

Value resolved(const Value& v) {
  if (v.is_opaque() && v.as_opaque().type == "numpy.ndarray" && v.as_opaque().state &&
      !v.as_opaque().state->is_none()) {
    return *v.as_opaque().state;
  }
  return v;
}

PickleValues::PickleValues(const PickleText& text)
    : text_(text), copies_left_(kCopiesAlways + kCopiesPerByte * text.left()) {}

PickleValues::~PickleValues() {
  // Containers that the result does not hold are emptied one by one: no cycle leaks, and no chain
  // of nested containers is destroyed recursively, since each is still held here.
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

Value PickleValues::large_integer(std::string_view little_endian) {
  if (little_endian.size() > 4096) text_.fail("an integer of ", little_endian.size(), " bytes");
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (size_t i = little_endian.size(); i-- > 0;) {
    const auto b = static_cast<uint8_t>(little_endian[i]);
    hex += {kDigits[b >> 4], kDigits[b & 15]};
  }
  return new_object(std::string(kLargeInteger), {Value(hex)});
}

void PickleValues::set_item(const Value& to, Value key, Value value) {
  if (to.is_opaque() && to.as_opaque().state) {  // a subclass of dict
    Value& state = *to.as_opaque().state;
    if (state.is_none()) state = new_dict();
    if (!state.is_dict()) text_.fail("items are set on ", to.kind_text());
    set_item(Value(state), std::move(key), std::move(value));
    return;
  }
  if (!to.is_dict()) text_.fail("items are set on ", to.kind_text());
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

void PickleValues::append(const Value& to, Value item) {
  if (to.is_opaque() && to.as_opaque().state) {  // a subclass of list
    Value& state = *to.as_opaque().state;
    if (state.is_none()) state = new_list({});
    if (!state.is_list()) text_.fail("items are appended to ", to.kind_text());
    filling_list(state).push_back(std::move(item));
    return;
  }
  if (!to.is_list()) text_.fail("items are appended to ", to.kind_text());
  filling_list(to).push_back(std::move(item));
}

void PickleValues::charge(const Value& v) {
  charge_bytes(v.is_string()   ? v.as_string().size()
               : v.is_bytes()  ? v.as_bytes().size()
               : v.is_opaque() ? v.as_opaque().type.size()
                               : 0);
}

void PickleValues::charge(const ValueList& copied) {
  charge_bytes(copied.size() * sizeof(Value));
  for (const Value& v : copied) charge(v);
}

void PickleValues::charge_bytes(uint64_t size) {
  if (size > copies_left_) text_.fail("it repeats one string too often");
  copies_left_ -= size;
}

void PickleValues::finish(Value& root) {
  CycleBreaker breaker(text_);
  breaker.run(root);
  for (const auto& [id, height] : breaker.heights()) reached_.insert(id);
}

}  // namespace seg
