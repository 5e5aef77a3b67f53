/// The one declaration of a type's options, from which come reading, checking, errors, tools/list
/// and the JSON Schema.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "registry/convert.hpp"

namespace seg {

/// A condition on one value: `test` returns what is wrong ("" where fine), `describe` adds the
/// condition to the type's description.
template <class T>
struct Check {
  std::function<std::string(const T&)> test;
  std::function<void(TypeDoc&)> describe;
};

namespace detail {
template <class T>
inline constexpr bool is_variant = false;
template <class... T>
inline constexpr bool is_variant<std::variant<T...>> = true;

/// Applies a test to a value, to each element of a list, or to the value of an optional or variant.
template <class T, class F>
std::string test_each(const T& value, const F& test) {
  if constexpr (requires { value.has_value(); }) {
    return value ? test_each(*value, test) : std::string();
  } else if constexpr (is_variant<T>) {
    return std::visit([&test](const auto& held) { return test_each(held, test); }, value);
  } else if constexpr (requires {
                         typename T::value_type;
                         value.begin();
                       } &&
                       !std::is_same_v<T, std::string>) {
    for (const auto& element : value) {
      if (std::string wrong = test_each(element, test); !wrong.empty()) return wrong;
    }
    return {};
  } else {
    return test(value);
  }
}
/// The description of the scalars inside lists and optionals.
void describe_scalars(TypeDoc& doc, const std::function<void(TypeDoc&)>& add);

template <class Test>
struct AnyCheck {
  Test test;
  std::function<void(TypeDoc&)> describe;
  template <class T>
  operator Check<T>() const {  // NOLINT(google-explicit-constructor): read as a value
    return {[t = test](const T& v) { return test_each(v, t); }, describe};
  }
};
template <class Test>
AnyCheck(Test, std::function<void(TypeDoc&)>) -> AnyCheck<Test>;
}  // namespace detail

/// Bounds hold for each element of a list.
inline auto at_least(double low) {
  return detail::AnyCheck{[low](const auto& v) {
                            return static_cast<double>(v) >= low
                                       ? std::string()
                                       : text("must be at least ", low, ", got ", v);
                          },
                          std::function<void(TypeDoc&)>([low](TypeDoc& d) { d.minimum = low; })};
}
inline auto above(double low) {
  return detail::AnyCheck{[low](const auto& v) {
                            return static_cast<double>(v) > low
                                       ? std::string()
                                       : text("must be above ", low, ", got ", v);
                          },
                          std::function<void(TypeDoc&)>([low](TypeDoc& d) {
                            d.minimum = low;
                            d.exclusive_minimum = true;
                          })};
}
inline auto in_range(double low, double high) {
  return detail::AnyCheck{[low, high](const auto& v) {
                            const auto x = static_cast<double>(v);
                            return x >= low && x <= high
                                       ? std::string()
                                       : text("must be between ", low, " and ", high, ", got ", v);
                          },
                          std::function<void(TypeDoc&)>([low, high](TypeDoc& d) {
                            d.minimum = low;
                            d.maximum = high;
                          })};
}
inline auto one_of(std::vector<std::string> allowed) {
  return detail::AnyCheck{
      [allowed](const std::string& v) {
        for (const auto& a : allowed) {
          if (a == v) return std::string();
        }
        return text("unknown value '", v, "'.", did_you_mean(v, allowed),
                    " Known: ", join(allowed, ", "));
      },
      std::function<void(TypeDoc&)>([allowed](TypeDoc& d) { d.choices = allowed; })};
}

/// Handed to `Schema::validate`: reports what is wrong with several options together.
class Problems {
 public:
  Problems(const Config& config, const std::string& path, Diagnostics& found)
      : config_(config), path_(path), found_(found) {}
  /// At the option's own line where it was given, else at the component's.
  void error(std::string_view option, const std::string& message);
  void warn(std::string_view option, const std::string& message);
  bool given(std::string_view option) const { return config_.find(option) != nullptr; }

 private:
  const Config& config_;
  const std::string& path_;
  Diagnostics& found_;
};

/// The part of a schema that does not depend on the parameter struct.
class SchemaBase {
 public:
  struct Field {
    OptionDoc doc;
    /// Reads the value into the struct at `target`.
    std::function<void(void* target, const Config&, const std::string& path, Diagnostics&)> read;
  };
  const std::string& summary() const { return summary_; }
  const std::string& source_text() const { return source_; }
  const std::vector<Field>& fields() const { return fields_; }
  std::vector<OptionDoc> docs() const;

 protected:
  explicit SchemaBase(std::string summary) : summary_(std::move(summary)) {}
  void add_field(Field field);
  /// Reads all options of the map `c` into `target`: unknown, missing and wrong ones are reported.
  /// `type` is the name used in messages.
  void parse_into(void* target, const Config& c, const std::string& path, std::string_view type,
                  Diagnostics& problems) const;

  std::string summary_, source_;
  std::vector<Field> fields_;
  std::vector<std::function<void(const void*, Problems&)>> validators_;
  std::vector<std::string> ignored_;
};

/// Schema of the parameter struct P, whose member initialisers are the defaults.
template <class P>
class Schema : public SchemaBase {
 public:
  explicit Schema(std::string summary) : SchemaBase(std::move(summary)) {}

  /// Paper or project that the type follows: "SegFormer, Xie et al. 2021, arXiv:2105.15203".
  Schema& source(std::string paper) {
    source_ = std::move(paper);
    return *this;
  }
  template <Configurable T, class B>
  requires std::is_base_of_v<B, P> Schema& required(std::string name, T B::*member,
                                                    std::string meaning,
                                                    std::type_identity_t<Check<T>> check = {}) {
    return add<T>(std::move(name), member, std::move(meaning), true, std::move(check));
  }
  template <Configurable T, class B>
  requires std::is_base_of_v<B, P> Schema& optional(std::string name, T B::*member,
                                                    std::string meaning,
                                                    std::type_identity_t<Check<T>> check = {}) {
    return add<T>(std::move(name), member, std::move(meaning), false, std::move(check));
  }
  /// All options of a base struct.
  template <class B>
  requires std::is_base_of_v<B, P> Schema& include(const Schema<B>& base) {
    base.copy_into(*this);
    return *this;
  }
  /// An option that is accepted and has no effect here, with the reason as its meaning.
  Schema& accepted(std::string name, std::string meaning) {
    Field field;
    field.doc = {std::move(name),
                 {.kind = TypeDoc::Kind::kAny, .name = "any", .items = {}},
                 "null",
                 std::move(meaning),
                 false};
    field.read = [](void*, const Config&, const std::string&, Diagnostics&) {};
    add_field(std::move(field));
    return *this;
  }
  /// A condition on several options; runs only where all options were read without an error.
  Schema& validate(std::function<void(const P&, Problems&)> check) {
    validators_.push_back([check = std::move(check)](const void* p, Problems& problems) {
      check(*static_cast<const P*>(p), problems);
    });
    return *this;
  }

  P parse(const Config& c, const std::string& path, std::string_view type,
          Diagnostics& problems) const {
    P out{};
    parse_into(&out, c, path, type, problems);
    return out;
  }

  template <class D>
  void copy_into(Schema<D>& derived) const {
    for (const Field& f : fields_) {
      derived.add_adapted(f, [](void* d) -> void* { return static_cast<P*>(static_cast<D*>(d)); });
    }
    for (const auto& v : validators_) {
      derived.validate(
          [v](const D& d, Problems& problems) { v(static_cast<const P*>(&d), problems); });
    }
  }
  void add_adapted(const Field& f, void* (*upcast)(void*)) {
    Field adapted = f;
    adapted.read = [read = f.read, upcast](void* target, const Config& c, const std::string& path,
                                           Diagnostics& d) { read(upcast(target), c, path, d); };
    add_field(std::move(adapted));
  }

 private:
  template <class T, class B>
  Schema& add(std::string name, T B::*member, std::string meaning, bool required, Check<T> check) {
    static const P defaults{};
    Field field;
    field.doc = {std::move(name), Convert<T>::type(),
                 required ? std::string() : Convert<T>::show(defaults.*member), std::move(meaning),
                 required};
    if (check.describe) detail::describe_scalars(field.doc.type, check.describe);
    field.read = [member, test = std::move(check.test)](void* target, const Config& c,
                                                        const std::string& path, Diagnostics& d) {
      auto value = Convert<T>::from(c, path, d);
      if (!value) return;
      if (test) {
        if (std::string wrong = test(*value); !wrong.empty()) {
          d.error(c.origin, path, wrong);
          return;
        }
      }
      static_cast<P*>(target)->*member = std::move(*value);
    };
    add_field(std::move(field));
    return *this;
  }
};

/// A struct with `static Schema<T> schema()` is an option with options of its own ("test_cfg").
template <class T>
concept OptionGroup = requires {
  { T::schema() } -> std::same_as<Schema<T>>;
};

template <OptionGroup T>
struct Convert<T> {
  static TypeDoc type() {
    return {.kind = TypeDoc::Kind::kGroup,
            .name = "mapping",
            .items = {},
            .choices = {},
            .minimum = {},
            .maximum = {},
            .exclusive_minimum = false,
            .group = std::make_shared<const std::vector<OptionDoc>>(T::schema().docs())};
  }
  static std::optional<T> from(const Config& c, const std::string& path, Diagnostics& problems) {
    if (!c.is_map()) {
      detail::wrong_type(c, path, "mapping", problems);
      return std::nullopt;
    }
    const size_t before = problems.error_count();
    T out = T::schema().parse(c, path, "", problems);
    if (problems.error_count() != before) return std::nullopt;
    return out;
  }
  static std::string show(const T&) { return "{}"; }
};

}  // namespace seg
