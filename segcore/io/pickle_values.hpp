/// The values that a pickle builds, while it builds them.
#pragma once
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "segcore/io/pickle_text.hpp"
#include "segcore/io/value.hpp"

namespace seg {

/// Makes and fills containers, and bounds what a small pickle can make of its bytes: copies of one
/// string, nesting, and cycles, which would never be freed.
class PickleValues {
 public:
  /// \param text  where failures are reported; `text.left()` bytes are the size of the pickle.
  explicit PickleValues(const PickleText& text);
  ~PickleValues();
  PickleValues(const PickleValues&) = delete;
  PickleValues& operator=(const PickleValues&) = delete;

  Value new_tuple(ValueList items) { return container(Value::tuple(std::move(items))); }
  /// \param limit  maxlen of a deque; -1: none
  Value new_list(ValueList items, ListKind kind = ListKind::kList, int64_t limit = -1) {
    return container(Value::list_of_kind(std::move(items), kind, limit));
  }
  Value new_dict() { return container(Value::dict()); }
  /// An inert stand-in for an object of Python's.
  Value new_object(std::string type, ValueList arguments) {
    return container(
        Value(OpaqueObject{std::move(type), std::make_shared<ValueList>(std::move(arguments)),
                           std::make_shared<Value>()}));
  }
  /// \param little_endian  two's complement.
  Value large_integer(std::string_view little_endian);

  void append(const Value& to, Value item);
  /// A repeated key replaces the earlier one.
  void set_item(const Value& to, Value key, Value value);

  /// Counts copies against a budget that grows with the pickle. \throws CheckpointError
  void charge(const Value& v);
  void charge(const ValueList& copied);
  void charge_bytes(uint64_t size);

  /// Replaces references from inside a container to itself, and resolves arrays that were rebuilt
  /// in place. \throws CheckpointError for nesting that is too deep.
  void finish(Value& root);

 private:
  /// Containers are kept until the end, so that cycles can be freed.
  Value container(Value v) {
    containers_.push_back(v);
    return v;
  }

  const PickleText& text_;
  uint64_t copies_left_;
  std::vector<Value> containers_;
  /// Where the keys of dicts are.
  std::unordered_map<const ValueDict*, std::unordered_map<std::string, size_t>> key_places_;
  /// Containers that the finished value holds.
  std::unordered_set<const void*> reached_;
};

/// The array itself where one was rebuilt in place, else the value.
Value resolved(const Value& v);

}  // namespace seg
