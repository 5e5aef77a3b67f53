/// Hyper-parameters of optimizers, under the names of torch.optim.
#pragma once
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include "segcore/io/value.hpp"

namespace seg {

/// The options of an optimizer; each group of parameters has its own copy.
///
/// An optimizer's struct derives from HyperParamsOf and lists its members once.
class HyperParams {
 public:
  virtual ~HyperParams() = default;
  double lr = 1e-3;
  double weight_decay = 0;

  virtual std::unique_ptr<HyperParams> copy() const = 0;
  /// The value that momentum schedules change: `momentum`, or the first of `betas`. Null for
  /// neither.
  virtual double* scheduled_momentum() { return nullptr; }
  virtual bool has_betas() const { return false; }
  virtual double* epsilon() { return nullptr; }
  /// The option of this name where it is one number, which a schedule can change; else null.
  virtual double* number(const std::string& name) = 0;

  /// All options as numbers, in the order of the list. Groups with equal numbers are updated
  /// together.
  virtual std::vector<double> numbers() const = 0;
  /// Adds {name: value} of all options to a dict, in the order of the list.
  virtual void write(Value& dict) const = 0;
  /// Takes a value from the saved options of a group. \return false where no option has this name.
  virtual bool read(const std::string& name, const Value& value) = 0;
};

namespace detail {
using Betas = std::array<double, 2>;
inline Value hyper_value(double v) { return v; }
inline Value hyper_value(bool v) { return v; }
inline Value hyper_value(int64_t v) { return v; }
inline Value hyper_value(const std::string& v) { return v; }
template <class T>
Value hyper_value(const std::optional<T>& v) {
  return v ? hyper_value(*v) : Value();
}
template <class T, size_t N>
Value hyper_value(const std::array<T, N>& v) {
  ValueList items;
  for (const T& item : v) items.push_back(hyper_value(item));
  return Value::tuple(std::move(items));
}

// None stands for a rate that transformers' Adafactor finds itself.
inline void take_hyper_value(double& to, const Value& v) {
  if (!v.is_none()) to = v.as_float();
}
inline void take_hyper_value(bool& to, const Value& v) { to = v.as_int() != 0; }
inline void take_hyper_value(int64_t& to, const Value& v) { to = v.as_int(); }
inline void take_hyper_value(std::string& to, const Value& v) { to = v.as_string(); }
template <class T>
void take_hyper_value(std::optional<T>& to, const Value& v) {
  if (v.is_none()) {
    to.reset();
  } else {
    take_hyper_value(to.emplace(), v);
  }
}
template <class T, size_t N>
void take_hyper_value(std::array<T, N>& to, const Value& v) {
  for (size_t i = 0; i < N; ++i) take_hyper_value(to[i], v.as_list().at(i));
}

inline void add_hyper_numbers(std::vector<double>& out, double v) { out.push_back(v); }
inline void add_hyper_numbers(std::vector<double>& out, bool v) { out.push_back(v ? 1 : 0); }
inline void add_hyper_numbers(std::vector<double>& out, int64_t v) {
  out.push_back(static_cast<double>(v));
}
inline void add_hyper_numbers(std::vector<double>& out, const std::string& v) {
  out.push_back(static_cast<double>(v.size()));
  out.insert(out.end(), v.begin(), v.end());
}
template <class T>
void add_hyper_numbers(std::vector<double>& out, const std::optional<T>& v) {
  out.push_back(v ? 1 : 0);
  if (v) add_hyper_numbers(out, *v);
}
template <class T, size_t N>
void add_hyper_numbers(std::vector<double>& out, const std::array<T, N>& v) {
  for (const T& item : v) add_hyper_numbers(out, item);
}
}  // namespace detail

/// For `struct AdamParams : HyperParamsOf<AdamParams>` with a static `const List& list()`.
template <class Derived>
class HyperParamsOf : public HyperParams {
 public:
  /// A name of the list and its member, or a constant that is written only for other readers.
  struct Entry {
    using Member = std::variant<double Derived::*, bool Derived::*, int64_t Derived::*,
                                detail::Betas Derived::*, std::array<double, 3> Derived::*,
                                std::optional<double> Derived::*,
                                std::array<std::optional<double>, 2> Derived::*,
                                std::optional<std::string> Derived::*, Value>;
    template <class T, class Base>
    Entry(const char* n, T Base::*m) : name(n), member(static_cast<T Derived::*>(m)) {}
    Entry(const char* n, const Value& constant) : name(n), member(constant) {}
    const char* name;
    Member member;
  };
  using List = std::vector<Entry>;

  std::unique_ptr<HyperParams> copy() const override {
    return std::make_unique<Derived>(static_cast<const Derived&>(*this));
  }
  std::vector<double> numbers() const override {
    std::vector<double> out;
    for (const Entry& entry : Derived::list()) {
      with_member(*this, entry, [&](const auto& v) { detail::add_hyper_numbers(out, v); });
    }
    return out;
  }
  void write(Value& dict) const override {
    for (const Entry& entry : Derived::list()) {
      if (const auto* constant = std::get_if<Value>(&entry.member)) dict.set(entry.name, *constant);
      with_member(*this, entry,
                  [&](const auto& v) { dict.set(entry.name, detail::hyper_value(v)); });
    }
  }
  bool read(const std::string& name, const Value& value) override {
    for (const Entry& entry : Derived::list()) {
      if (name != entry.name) continue;
      with_member(*this, entry, [&](auto& v) { detail::take_hyper_value(v, value); });
      return true;
    }
    return false;
  }
  double* number(const std::string& name) override {
    for (const Entry& entry : Derived::list()) {
      const auto* member = std::get_if<double Derived::*>(&entry.member);
      if (member && name == entry.name) return &(static_cast<Derived&>(*this).**member);
    }
    return nullptr;
  }

 private:
  /// Calls f with the member of an entry; not for constants.
  template <class Self, class F>
  static void with_member(Self& self, const Entry& entry, const F& f) {
    using Own = std::conditional_t<std::is_const_v<Self>, const Derived, Derived>;
    const auto visitor = [&](const auto& member) {
      if constexpr (!std::is_same_v<std::decay_t<decltype(member)>, Value>) {
        f(static_cast<Own&>(self).*member);
      }
    };
    std::visit(visitor, entry.member);
  }
};

/// The same for the relatives of Adam, whose first beta is their momentum.
template <class Derived>
class BetaParamsOf : public HyperParamsOf<Derived> {
 public:
  std::array<double, 2> betas{0.9, 0.999};
  double* scheduled_momentum() override { return &betas[0]; }
  bool has_betas() const override { return true; }
};

}  // namespace seg
