#include "segcore/io/value.hpp"

#include <ATen/core/Tensor.h>

#include "registry/error.hpp"
#include "segcore/io/dtypes.hpp"

namespace seg {
namespace {

[[noreturn]] void wrong_value_kind(const char* wanted, const Value& found) {
  throw CheckpointError(text("expected ", wanted, ", found ", found.kind_text()));
}

/// Keys of a dict are equal as in Python: 1 == True == 1.0.
bool equal_keys(const Value& a, const Value& b) {
  if (a.is_string() || b.is_string()) {
    return a.is_string() && b.is_string() && a.as_string() == b.as_string();
  }
  auto is_number = [](const Value& v) { return v.is_bool() || v.is_int() || v.is_float(); };
  if (is_number(a) && is_number(b)) {
    if (!a.is_float() && !b.is_float()) return a.as_int() == b.as_int();
    return a.as_float() == b.as_float();
  }
  if (a.is_none() || b.is_none()) return a.is_none() && b.is_none();
  if (a.is_bytes() && b.is_bytes()) return a.as_bytes() == b.as_bytes();
  if (a.is_tuple() && b.is_tuple()) {
    const ValueList &x = a.as_list(), &y = b.as_list();
    if (x.size() != y.size()) return false;
    for (size_t i = 0; i < x.size(); ++i) {
      if (!equal_keys(x[i], y[i])) return false;
    }
    return true;
  }
  return false;
}

}  // namespace

bool Value::as_bool() const {
  if (const bool* v = std::get_if<bool>(&data_)) return *v;
  wrong_value_kind("a bool", *this);
}

int64_t Value::as_int() const {
  if (const int64_t* v = std::get_if<int64_t>(&data_)) return *v;
  if (const bool* v = std::get_if<bool>(&data_)) return *v ? 1 : 0;
  wrong_value_kind("an int", *this);
}

double Value::as_float() const {
  if (const double* v = std::get_if<double>(&data_)) return *v;
  if (is_int() || is_bool()) return static_cast<double>(as_int());
  wrong_value_kind("a float", *this);
}

const std::string& Value::as_string() const {
  if (const std::string* v = std::get_if<std::string>(&data_)) return *v;
  wrong_value_kind("a string", *this);
}

const std::string& Value::as_bytes() const {
  if (const Bytes* v = std::get_if<Bytes>(&data_)) return v->data;
  wrong_value_kind("bytes", *this);
}

const at::Tensor& Value::as_tensor() const {
  if (const at::Tensor* v = std::get_if<at::Tensor>(&data_)) return *v;
  wrong_value_kind("a tensor", *this);
}

const ValueList& Value::as_list() const {
  if (const auto* v = std::get_if<List>(&data_)) return *v->items;
  if (const auto* v = std::get_if<Tuple>(&data_)) return *v->items;
  wrong_value_kind("a list", *this);
}

const Value::List& Value::as_list_of_kind() const {
  if (const auto* v = std::get_if<List>(&data_)) return *v;
  wrong_value_kind("a list", *this);
}

const ValueDict& Value::as_dict() const {
  if (const auto* v = std::get_if<std::shared_ptr<ValueDict>>(&data_)) return **v;
  wrong_value_kind("a dict", *this);
}

const OpaqueObject& Value::as_opaque() const {
  if (const OpaqueObject* v = std::get_if<OpaqueObject>(&data_)) return *v;
  wrong_value_kind("a Python object", *this);
}

const Value* Value::find(std::string_view key) const {
  const auto* items = std::get_if<std::shared_ptr<ValueDict>>(&data_);
  if (!items) return nullptr;
  for (const auto& [k, v] : **items) {
    if (k.is_string() && k.as_string() == key) return &v;
  }
  return nullptr;
}

const Value& Value::at(std::string_view key) const {
  if (const Value* found = find(key)) return *found;
  if (!is_dict()) {
    throw CheckpointError(text("expected a dict with '", key, "', found ", kind_text()));
  }
  std::vector<std::string> known;
  for (const auto& [k, v] : as_dict()) {
    if (k.is_string() && known.size() < 1000) known.push_back(k.as_string());
  }
  throw CheckpointError(text("there is no '", key, "'.", did_you_mean(key, known)));
}

void Value::set(Value key, Value value) {
  auto* items = std::get_if<std::shared_ptr<ValueDict>>(&data_);
  if (!items) wrong_value_kind("a dict", *this);
  for (auto& [k, v] : **items) {
    if (equal_keys(k, key)) {
      v = std::move(value);
      return;
    }
  }
  (*items)->emplace_back(std::move(key), std::move(value));
}

void Value::push_back(Value value) {
  auto* list = std::get_if<List>(&data_);
  if (!list) wrong_value_kind("a list", *this);
  list->items->push_back(std::move(value));
}

std::string Value::kind_text() const {
  struct Describe {
    std::string operator()(const None&) const { return "None"; }
    std::string operator()(bool) const { return "a bool"; }
    std::string operator()(int64_t) const { return "an int"; }
    std::string operator()(double) const { return "a float"; }
    std::string operator()(const std::string&) const { return "a string"; }
    std::string operator()(const Bytes&) const { return "bytes"; }
    std::string operator()(const at::Tensor& t) const {
      if (!t.defined()) return "an undefined tensor";
      return text("a tensor [", join(t.sizes(), ", "), "] ", dtype_name(t.scalar_type()));
    }
    std::string operator()(const List& list) const {
      switch (list.kind) {
        case ListKind::kSet:
          return "a set";
        case ListKind::kFrozenSet:
          return "a frozenset";
        case ListKind::kDeque:
          return "a deque";
        default:
          return "a list";
      }
    }
    std::string operator()(const Tuple&) const { return "a tuple"; }
    std::string operator()(const std::shared_ptr<ValueDict>&) const { return "a dict"; }
    std::string operator()(const OpaqueObject& o) const { return "an object of " + o.type; }
  };
  return std::visit(Describe{}, data_);
}

}  // namespace seg
