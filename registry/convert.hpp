/// How a C++ type is read from a configuration, described in lists and JSON Schema, and printed.
#pragma once
#include <array>
#include <concepts>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "registry/config.hpp"

namespace seg {

/// What an option accepts; for messages ("expected list of int"), tools/list and tools/schema.
struct TypeDoc {
  enum class Kind {
    kAny,
    kNull,
    kBool,
    kInt,
    kFloat,
    kString,
    kList,       ///< items[0] is the element
    kTuple,      ///< fixed length: one item an element
    kMap,        ///< free keys; items[0] is the value
    kOneOf,      ///< any of items
    kComponent,  ///< a registered type; `name` is the category
    kGroup,      ///< a fixed set of options: `group`
  };
  Kind kind = Kind::kAny;
  std::string name;  ///< as shown to people: "int", "list of float", "backbone"
  std::vector<TypeDoc> items;
  std::vector<std::string> choices;        ///< strings allowed, if any
  std::optional<double> minimum, maximum;  ///< inclusive bounds
  bool exclusive_minimum = false;
  std::shared_ptr<const std::vector<struct OptionDoc>> group;
};

/// One documented option of a registered type or of a group.
struct OptionDoc {
  std::string name;
  TypeDoc type;
  std::string default_value;  ///< flow-style YAML; empty where required
  std::string meaning;
  bool required = false;
};

/// Specialised for each type that an option can have:
///   static TypeDoc type();
///   static std::optional<T> from(const Config&, const std::string& path, Diagnostics&);
///   static std::string show(const T&);     // flow-style YAML
/// `from` adds an error and returns nothing where the value does not fit.
template <class T>
struct Convert;

template <class T>
concept Configurable = requires(const Config& c, Diagnostics& d, const T& v) {
  { Convert<T>::type() } -> std::same_as<TypeDoc>;
  { Convert<T>::from(c, std::string{}, d) } -> std::same_as<std::optional<T>>;
  { Convert<T>::show(v) } -> std::convertible_to<std::string>;
};

namespace detail {
/// Adds "expected WANTED, got 'VALUE'".
void wrong_type(const Config& got, const std::string& path, const std::string& wanted,
                Diagnostics& problems);
}  // namespace detail

#define SEG_DECLARE_CONVERT(T)                                                          \
  template <>                                                                           \
  struct Convert<T> {                                                                   \
    static TypeDoc type();                                                              \
    static std::optional<T> from(const Config&, const std::string& path, Diagnostics&); \
    static std::string show(const T& value);                                            \
  }
SEG_DECLARE_CONVERT(bool);
SEG_DECLARE_CONVERT(int64_t);      ///< 2 and 2.0; not 2.5
SEG_DECLARE_CONVERT(double);       ///< any number
SEG_DECLARE_CONVERT(std::string);  ///< any scalar, as written
SEG_DECLARE_CONVERT(Config);       ///< anything: read later by whoever knows its meaning
#undef SEG_DECLARE_CONVERT

/// null is a value of its own.
template <class T>
struct Convert<std::optional<T>> {
  static TypeDoc type() {
    TypeDoc inner = Convert<T>::type();
    TypeDoc doc{.kind = TypeDoc::Kind::kOneOf, .name = inner.name + " or null", .items = {}};
    doc.items.push_back(std::move(inner));
    doc.items.push_back({.kind = TypeDoc::Kind::kNull, .name = "null", .items = {}});
    return doc;
  }
  static std::optional<std::optional<T>> from(const Config& c, const std::string& path,
                                              Diagnostics& problems) {
    if (c.is_null()) return std::optional<std::optional<T>>(std::in_place, std::nullopt);
    auto value = Convert<T>::from(c, path, problems);
    if (!value) return std::nullopt;
    return std::optional<std::optional<T>>(std::in_place, std::move(*value));
  }
  static std::string show(const std::optional<T>& v) { return v ? Convert<T>::show(*v) : "null"; }
};

template <class T>
struct Convert<std::vector<T>> {
  static TypeDoc type() {
    TypeDoc inner = Convert<T>::type();
    return {.kind = TypeDoc::Kind::kList, .name = "list of " + inner.name, .items = {inner}};
  }
  static std::optional<std::vector<T>> from(const Config& c, const std::string& path,
                                            Diagnostics& problems) {
    if (!c.is_list()) {
      detail::wrong_type(c, path, type().name, problems);
      return std::nullopt;
    }
    std::vector<T> out;
    bool good = true;
    for (size_t i = 0; i < c.list.size(); ++i) {
      auto value = Convert<T>::from(c.list[i], text(path, '.', i), problems);
      if (value) {
        out.push_back(std::move(*value));
      } else {
        good = false;
      }
    }
    if (!good) return std::nullopt;
    return out;
  }
  static std::string show(const std::vector<T>& values) {
    std::vector<std::string> shown;
    for (const T& v : values) shown.push_back(Convert<T>::show(v));
    return "[" + join(shown, ", ") + "]";
  }
};

/// A list of exactly N.
template <class T, size_t N>
struct Convert<std::array<T, N>> {
  static TypeDoc type() {
    TypeDoc inner = Convert<T>::type();
    return {.kind = TypeDoc::Kind::kTuple,
            .name = text(N, " values of type ", inner.name),
            .items = std::vector<TypeDoc>(N, inner)};
  }
  static std::optional<std::array<T, N>> from(const Config& c, const std::string& path,
                                              Diagnostics& problems) {
    if (!c.is_list() || c.list.size() != N) {
      detail::wrong_type(c, path, type().name, problems);
      return std::nullopt;
    }
    std::array<T, N> out{};
    for (size_t i = 0; i < N; ++i) {
      auto value = Convert<T>::from(c.list[i], text(path, '.', i), problems);
      if (!value) return std::nullopt;
      out[i] = std::move(*value);
    }
    return out;
  }
  static std::string show(const std::array<T, N>& values) {
    return Convert<std::vector<T>>::show(std::vector<T>(values.begin(), values.end()));
  }
};

/// Free keys, one type of value.
template <class T>
struct Convert<std::map<std::string, T>> {
  static TypeDoc type() {
    TypeDoc inner = Convert<T>::type();
    return {.kind = TypeDoc::Kind::kMap, .name = "mapping to " + inner.name, .items = {inner}};
  }
  static std::optional<std::map<std::string, T>> from(const Config& c, const std::string& path,
                                                      Diagnostics& problems) {
    if (!c.is_map()) {
      detail::wrong_type(c, path, type().name, problems);
      return std::nullopt;
    }
    std::map<std::string, T> out;
    bool good = true;
    for (const auto& item : c.map) {
      auto value = Convert<T>::from(item.value, path + "." + item.key, problems);
      if (value) {
        out.emplace(item.key, std::move(*value));
      } else {
        good = false;
      }
    }
    if (!good) return std::nullopt;
    return out;
  }
  static std::string show(const std::map<std::string, T>& values) {
    std::vector<std::string> shown;
    for (const auto& [key, v] : values) shown.push_back(key + ": " + Convert<T>::show(v));
    return "{" + join(shown, ", ") + "}";
  }
};

/// The first alternative that fits. If none fits, reports the errors of the one that has the
/// value's shape (a map for a component, a list for a list), else "expected A or B".
template <class... T>
struct Convert<std::variant<T...>> {
  using Variant = std::variant<T...>;
  static TypeDoc type() {
    TypeDoc doc{.kind = TypeDoc::Kind::kOneOf, .name = "", .items = {Convert<T>::type()...}};
    std::vector<std::string> names;
    for (const auto& item : doc.items) names.push_back(item.name);
    doc.name = join(names, " or ");
    return doc;
  }
  static std::optional<Variant> from(const Config& c, const std::string& path,
                                     Diagnostics& problems) {
    std::optional<Variant> out;
    Diagnostics detailed;
    auto attempt = [&]<class A>(std::type_identity<A>) {
      if (out) return;
      Diagnostics mine;
      if (auto value = Convert<A>::from(c, path, mine)) {
        out.emplace(std::in_place_type<A>, std::move(*value));
      } else if (shape_fits(Convert<A>::type().kind, c) && !detailed.has_errors()) {
        detailed = mine;
      }
    };
    (attempt(std::type_identity<T>{}), ...);
    if (out) return out;
    if (detailed.has_errors()) {
      problems.add(detailed);
    } else {
      detail::wrong_type(c, path, type().name, problems);
    }
    return std::nullopt;
  }
  static std::string show(const Variant& v) {
    return std::visit([]<class A>(const A& a) { return Convert<A>::show(a); }, v);
  }

 private:
  static bool shape_fits(TypeDoc::Kind kind, const Config& c) {
    using K = TypeDoc::Kind;
    if (kind == K::kMap || kind == K::kComponent || kind == K::kGroup) return c.is_map();
    return (kind == K::kList || kind == K::kTuple) && c.is_list();
  }
};

/// One value, or a list of them: `loss_decode: {...}` or `loss_decode: [{...}, {...}]`.
template <class T>
struct OneOrMany {
  std::vector<T> values;
  bool is_list = false;  ///< as it was written
};

template <class T>
struct Convert<OneOrMany<T>> {
  static TypeDoc type() {
    TypeDoc one = Convert<T>::type();
    TypeDoc many = Convert<std::vector<T>>::type();
    return {
        .kind = TypeDoc::Kind::kOneOf, .name = one.name + " or " + many.name, .items = {one, many}};
  }
  static std::optional<OneOrMany<T>> from(const Config& c, const std::string& path,
                                          Diagnostics& problems) {
    if (c.is_list()) {
      auto values = Convert<std::vector<T>>::from(c, path, problems);
      if (!values) return std::nullopt;
      return OneOrMany<T>{std::move(*values), true};
    }
    auto value = Convert<T>::from(c, path, problems);
    if (!value) return std::nullopt;
    OneOrMany<T> out;
    out.values.push_back(std::move(*value));
    return out;
  }
  static std::string show(const OneOrMany<T>& v) {
    if (!v.is_list && v.values.size() == 1) return Convert<T>::show(v.values[0]);
    return Convert<std::vector<T>>::show(v.values);
  }
};

}  // namespace seg
