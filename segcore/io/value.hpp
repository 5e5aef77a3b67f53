/// The contents of a checkpoint: a tree of plain data as Python's pickle and torch.save have it.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace seg {

class Value;
using ValueList = std::vector<Value>;
/// A dict in insertion order; keys are any plain value (an optimizer's state has integers).
using ValueDict = std::vector<std::pair<Value, Value>>;

/// A Python object of a class that is not rebuilt: inert, kept so that a message can name it.
struct OpaqueObject {
  std::string type;                      ///< "mmengine.logging.history_buffer.HistoryBuffer"
  std::shared_ptr<ValueList> arguments;  ///< arguments of its constructor
  std::shared_ptr<Value> state;          ///< its state, or null
};

/// What a list is in Python: all are read as lists, and written as what they were.
enum class ListKind { kList, kSet, kFrozenSet, kDeque };

/// None, bool, int, float, str, bytes, list (or set, frozenset, deque), tuple, dict or tensor.
class Value {
 public:
  struct None {};
  struct Bytes {
    std::string data;
  };
  struct Tuple {
    std::shared_ptr<ValueList> items;
  };
  struct List {
    std::shared_ptr<ValueList> items;
    ListKind kind = ListKind::kList;
    int64_t limit = -1;  ///< maxlen of a deque; -1: none
  };

  Value() : data_(None{}) {}
  Value(bool v) : data_(v) {}                       // NOLINT: literals become values
  Value(int v) : data_(static_cast<int64_t>(v)) {}  // NOLINT
  Value(int64_t v) : data_(v) {}                    // NOLINT
  Value(double v) : data_(v) {}                     // NOLINT
  Value(std::string v) : data_(std::move(v)) {}     // NOLINT
  Value(const char* v) : data_(std::string(v)) {}   // NOLINT
  Value(at::Tensor v) : data_(std::move(v)) {}      // NOLINT
  Value(Bytes v) : data_(std::move(v)) {}           // NOLINT
  Value(OpaqueObject v) : data_(std::move(v)) {}    // NOLINT
  Value(ValueList v)                                // NOLINT
      : data_(List{std::make_shared<ValueList>(std::move(v))}) {}
  static Value list_of_kind(ValueList items, ListKind kind, int64_t limit = -1) {
    Value v;
    v.data_ = List{std::make_shared<ValueList>(std::move(items)), kind, limit};
    return v;
  }
  static Value tuple(ValueList items) {
    Value v;
    v.data_ = Tuple{std::make_shared<ValueList>(std::move(items))};
    return v;
  }
  /// An empty dict; fill it with set().
  static Value dict() {
    Value v;
    v.data_ = std::make_shared<ValueDict>();
    return v;
  }
  /// A dict of items whose keys differ, for large ones: set() searches all earlier keys.
  static Value dict(ValueDict items) {
    Value v;
    v.data_ = std::make_shared<ValueDict>(std::move(items));
    return v;
  }
  static Value list() { return Value(ValueList{}); }

  bool is_none() const { return std::holds_alternative<None>(data_); }
  bool is_bool() const { return std::holds_alternative<bool>(data_); }
  bool is_int() const { return std::holds_alternative<int64_t>(data_); }
  bool is_float() const { return std::holds_alternative<double>(data_); }
  bool is_string() const { return std::holds_alternative<std::string>(data_); }
  bool is_bytes() const { return std::holds_alternative<Bytes>(data_); }
  bool is_tensor() const { return std::holds_alternative<at::Tensor>(data_); }
  bool is_list() const { return std::holds_alternative<List>(data_); }
  bool is_tuple() const { return std::holds_alternative<Tuple>(data_); }
  bool is_dict() const { return std::holds_alternative<std::shared_ptr<ValueDict>>(data_); }
  bool is_opaque() const { return std::holds_alternative<OpaqueObject>(data_); }

  /// The contents; each throws CheckpointError("expected WHAT, found WHAT") for another type.
  bool as_bool() const;
  int64_t as_int() const;   ///< also of a bool
  double as_float() const;  ///< also of an int
  const std::string& as_string() const;
  const std::string& as_bytes() const;
  const at::Tensor& as_tensor() const;
  const ValueList& as_list() const;     ///< of a list or a tuple
  const List& as_list_of_kind() const;  ///< of a list
  const ValueDict& as_dict() const;
  const OpaqueObject& as_opaque() const;

  /// Items of a dict. find() returns nullptr for an absent key, and for a value that is no dict;
  /// at() throws CheckpointError naming the key.
  const Value* find(std::string_view key) const;
  const Value& at(std::string_view key) const;
  /// Adds or replaces. Containers are shared between copies of a Value, as in Python.
  void set(Value key, Value value);
  void push_back(Value value);

  /// "a dict", "an int", "a tensor [2, 3] float32", for messages.
  std::string kind_text() const;

 private:
  std::variant<None, bool, int64_t, double, std::string, Bytes, at::Tensor, List, Tuple,
               std::shared_ptr<ValueDict>, OpaqueObject>
      data_;
};

}  // namespace seg
