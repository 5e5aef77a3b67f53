/// Classes and functions of Python's that pickles name. None is ever called: those that stand for
/// data are understood, all others become inert objects.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "segcore/io/pickle_values.hpp"
#include "segcore/io/unpickle.hpp"

namespace seg {

class PickleGlobals {
 public:
  PickleGlobals(const PickleText& text, PickleValues& values, const StorageSource& storages)
      : text_(text), values_(values), storages_(storages) {}

  /// The value of `name(*arguments)`; an inert object where the name is not known.
  /// \param name  as global_name gives it; "" for anything that is not a global.
  Value call(const std::string& name, const Value& arguments);
  /// The storage or class that a persistent id refers to.
  Value persistent(const Value& id);

 private:
  std::optional<Value> known(const std::string& name, const ValueList& a);
  std::optional<Value> torch_value(const std::string& name, const ValueList& a);
  std::optional<Value> container_value(const std::string& name, const ValueList& a);
  std::optional<Value> bytes_value(const std::string& name, const ValueList& a);
  std::optional<Value> object_value(const std::string& name, const ValueList& a);
  Value rebuild_tensor(const ValueList& arguments, bool third_version);
  Value pairs_to_dict(const Value& pairs);

  const PickleText& text_;
  PickleValues& values_;
  const StorageSource& storages_;
};

/// A global as a value, under the name that it has here: modules were renamed over the years.
Value pickle_global(std::string_view module, std::string_view name);
/// The name of a global, "" for any other value.
std::string global_name(const Value& v);

}  // namespace seg
