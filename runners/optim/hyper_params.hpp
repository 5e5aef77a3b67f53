/// Hyper-parameters of optimizers, under the names of torch.optim.
#pragma once
#include <array>
#include <memory>
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
inline Value hyper_value(const Betas& v) { return Value::tuple({v[0], v[1]}); }
inline void take_hyper_value(double& to, const Value& v) { to = v.as_float(); }
inline void take_hyper_value(bool& to, const Value& v) { to = v.as_int() != 0; }
inline void take_hyper_value(Betas& to, const Value& v) {
  to = {v.as_list().at(0).as_float(), v.as_list().at(1).as_float()};
}
inline void add_hyper_numbers(std::vector<double>& out, double v) { out.push_back(v); }
inline void add_hyper_numbers(std::vector<double>& out, bool v) { out.push_back(v ? 1 : 0); }
inline void add_hyper_numbers(std::vector<double>& out, const Betas& v) {
  out.insert(out.end(), v.begin(), v.end());
}
}  // namespace detail

/// For `struct AdamParams : HyperParamsOf<AdamParams>` with a static `const List& list()`.
template <class Derived>
class HyperParamsOf : public HyperParams {
 public:
  /// A name of the list and its member, or a constant that is written only for other readers.
  struct Entry {
    using Member =
        std::variant<double Derived::*, bool Derived::*, detail::Betas Derived::*, Value>;
    Entry(const char* n, double Derived::*m) : name(n), member(m) {}
    Entry(const char* n, bool Derived::*m) : name(n), member(m) {}
    Entry(const char* n, detail::Betas Derived::*m) : name(n), member(m) {}
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
