/// Factories by name: one registry per interface, filled by SEG_REGISTER in the source files of the
/// types.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "registry/schema.hpp"

namespace seg {

/// Specialised beside each interface:
///   static constexpr std::string_view name = "backbone";          // the word used in messages
///   using Signature = std::shared_ptr<Backbone>();                // what its factories take
///   using Facts = BackboneFacts;  // optional: what `static Facts T::facts(const T::Params&)`
///   states
template <class Base>
struct Category;

/// What tools/list and tools/schema need to know of a category, without its C++ type.
class AnyRegistry {
 public:
  struct TypeInfo {
    std::string name, summary, source, where;  ///< where: source file of the registration
    std::vector<OptionDoc> options;
  };
  virtual ~AnyRegistry() = default;
  virtual std::string_view category() const = 0;
  virtual std::vector<TypeInfo> types() const = 0;  ///< sorted by name
  /// All registries that have at least one type, sorted by category.
  static std::vector<const AnyRegistry*> all();

 protected:
  AnyRegistry();
};

/// Static initialisers must not throw: duplicate names are kept here and reported by main().
std::vector<std::string>& registration_problems();

/// Where an option stands: its line, and its name from the top of the config.
struct OptionPlace {
  Origin origin;
  std::string path;
};

namespace detail {
/// The `type` of a component without its scope ("mmseg.FCNHead" -> "FCNHead"), or nothing where
/// `c` is no map with a `type`, which is reported.
std::optional<std::string> type_of(const Config& c, const std::string& path,
                                   std::string_view category, const std::vector<std::string>& known,
                                   Diagnostics& problems);
void unknown_type(const Config& c, const std::string& path, std::string_view category,
                  const std::string& type, const std::vector<std::string>& known,
                  Diagnostics& problems);
/// A ConfigError for an OptionError that a constructor threw.
ConfigError located(const OptionError& error, const Config& c, const std::string& path);
OptionPlace place_of(const Config& c, const std::string& path, const std::string& option);
/// Reads the text of a default component.
Config parse_default(const std::string& yaml);
}  // namespace detail

/// Types of the category state facts about a component before it is built.
template <class Base>
concept StatesFacts = requires {
  typename Category<Base>::Facts;
};

namespace detail {
template <class Base>
struct FactsOf {
  using type = void;
};
template <StatesFacts Base>
struct FactsOf<Base> {
  using type = typename Category<Base>::Facts;
};
}  // namespace detail

template <class Base, class Signature = typename Category<Base>::Signature>
class Registry;

template <class Base, class Result, class... Args>
class Registry<Base, Result(Args...)> final : public AnyRegistry {
 public:
  struct Entry {
    std::string where;
    TypeInfo (*info)();
    std::shared_ptr<const void> (*parse)(const Config&, const std::string& path,
                                         const std::string& type, Diagnostics&);
    Result (*create)(const void* params, Args... args);
    typename detail::FactsOf<Base>::type (*facts)(const void* params);  ///< null: states none
  };
  static Registry& instance() {
    static Registry registry;
    return registry;
  }
  void add(std::string name, Entry entry) {
    auto [it, fresh] = entries_.emplace(std::move(name), entry);
    if (!fresh) {
      registration_problems().push_back(text(category(), " '", it->first, "' is registered twice: ",
                                             it->second.where, " and ", entry.where));
    }
  }
  const Entry* find(const std::string& name) const {
    auto it = entries_.find(name);
    return it == entries_.end() ? nullptr : &it->second;
  }
  std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (const auto& [name, entry] : entries_) out.push_back(name);
    return out;
  }
  std::string_view category() const override { return Category<Base>::name; }
  std::vector<TypeInfo> types() const override {
    std::vector<TypeInfo> out;
    for (const auto& [name, entry] : entries_) {
      out.push_back(entry.info());
      out.back().name = name;
      out.back().where = entry.where;
    }
    return out;
  }

 private:
  Registry() = default;
  std::map<std::string, Entry> entries_;
};

/// A component that was read and checked but not yet built: the type of an option "some backbone".
/// A default-made Spec is empty and must not be built.
template <class Base>
class Spec {
  using R = Registry<Base>;

 public:
  Spec() = default;
  /// From a text, for defaults and tests: Spec<Loss>::of("{type: CrossEntropyLoss}").
  /// \throws ConfigError
  static Spec of(const std::string& yaml) {
    Diagnostics problems;
    auto spec = parse(detail::parse_default(yaml), "", problems);
    if (problems.has_errors()) throw ConfigError(problems);
    return *spec;
  }
  static std::optional<Spec> parse(const Config& c, const std::string& path,
                                   Diagnostics& problems) {
    const auto type =
        detail::type_of(c, path, Category<Base>::name, R::instance().names(), problems);
    if (!type) return std::nullopt;
    const auto* entry = R::instance().find(*type);
    if (!entry) {
      detail::unknown_type(c, path, Category<Base>::name, *type, R::instance().names(), problems);
      return std::nullopt;
    }
    const size_t before = problems.error_count();
    Spec out;
    out.entry_ = entry;
    out.type_ = *type;
    out.config_ = std::make_shared<const Config>(c);
    out.path_ = path;
    out.params_ = entry->parse(c, path, *type, problems);
    if (problems.error_count() != before) return std::nullopt;
    return out;
  }
  /// \throws ConfigError where the constructor throws OptionError.
  template <class... A>
  auto build(A&&... args) const {
    if (!entry_) throw Error(text("an empty ", Category<Base>::name, " cannot be built"));
    try {
      return entry_->create(params_.get(), std::forward<A>(args)...);
    } catch (const OptionError& e) {
      throw detail::located(e, *config_, path_);
    }
  }
  /// What its type states of a component with these options.
  typename detail::FactsOf<Base>::type facts() const requires StatesFacts<Base> {
    if (!entry_) throw Error(text("an empty ", Category<Base>::name, " has no facts"));
    return entry_->facts(params_.get());
  }
  /// The place of an option ("num_classes", "decode_head.0"); that of the component where the
  /// option is left to its default or "".
  OptionPlace place_of(const std::string& option) const {
    return detail::place_of(config(), path_, option);
  }
  explicit operator bool() const { return entry_ != nullptr; }
  const std::string& type() const { return type_; }
  /// The mapping it was read from; null for an empty one.
  const Config& config() const {
    static const Config none;
    return config_ ? *config_ : none;
  }
  const std::string& path() const { return path_; }

 private:
  const typename R::Entry* entry_ = nullptr;
  std::shared_ptr<const void> params_;
  std::shared_ptr<const Config> config_;
  std::string type_, path_;
};

std::string dump_flow(const Config& config);

template <class Base>
struct Convert<Spec<Base>> {
  static TypeDoc type() {
    return {
        .kind = TypeDoc::Kind::kComponent, .name = std::string(Category<Base>::name), .items = {}};
  }
  static std::optional<Spec<Base>> from(const Config& c, const std::string& path,
                                        Diagnostics& problems) {
    return Spec<Base>::parse(c, path, problems);
  }
  static std::string show(const Spec<Base>& spec) {
    return spec ? dump_flow(spec.config()) : "null";
  }
};

template <class Base, class T, class Signature = typename Category<Base>::Signature>
struct Registrar;

template <class Base, class T, class Result, class... Args>
struct Registrar<Base, T, Result(Args...)> {
  using Params = typename T::Params;
  static_assert(std::is_base_of_v<Base, T>, "SEG_REGISTER(Base, T): T must derive from Base");
  static_assert(std::is_constructible_v<T, const Params&, Args...>,
                "SEG_REGISTER(Base, T): T needs a constructor T(const Params&, the arguments of "
                "Category<Base>::Signature)");
  Registrar(const char* name, const char* file) {
    Registry<Base>::instance().add(
        name,
        {file,
         [] {
           const auto schema = T::schema();
           return AnyRegistry::TypeInfo{
               {}, schema.summary(), schema.source_text(), {}, schema.docs()};
         },
         [](const Config& c, const std::string& path, const std::string& type,
            Diagnostics& problems) -> std::shared_ptr<const void> {
           return std::make_shared<const Params>(T::schema().parse(c, path, type, problems));
         },
         [](const void* params, Args... args) -> Result {
           return Result(new T(*static_cast<const Params*>(params), std::forward<Args>(args)...));
         },
         facts()});
  }

 private:
  static auto facts() -> typename detail::FactsOf<Base>::type (*)(const void*) {
    if constexpr (StatesFacts<Base>) {
      return [](const void* params) { return T::facts(*static_cast<const Params*>(params)); };
    } else {
      return nullptr;
    }
  }
};

}  // namespace seg

#define SEG_CONCAT_(a, b) a##b
#define SEG_CONCAT(a, b) SEG_CONCAT_(a, b)
/// Makes `Type` buildable from a config under its own name. In the .cpp only.
#define SEG_REGISTER(Base, Type) SEG_REGISTER_AS(Base, Type, #Type)
/// The same under another name: one class for several registered variants.
#define SEG_REGISTER_AS(Base, Type, name)                                             \
  static const ::seg::Registrar<Base, Type> SEG_CONCAT(seg_registrar_, __COUNTER__) { \
    name, __FILE__                                                                    \
  }
