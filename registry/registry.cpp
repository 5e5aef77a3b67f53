#include "registry/registry.hpp"

#include <algorithm>

#include "registry/left_out.hpp"
#include "registry/yaml.hpp"

namespace seg {
namespace {
std::vector<const AnyRegistry*>& registries() {
  static std::vector<const AnyRegistry*> list;
  return list;
}
}  // namespace

AnyRegistry::AnyRegistry() { registries().push_back(this); }

std::vector<const AnyRegistry*> AnyRegistry::all() {
  auto out = registries();
  std::erase_if(out, [](const AnyRegistry* r) { return r->types().empty(); });
  std::sort(out.begin(), out.end(), [](const AnyRegistry* a, const AnyRegistry* b) {
    return a->category() < b->category();
  });
  return out;
}

std::vector<std::string>& registration_problems() {
  static std::vector<std::string> problems;
  return problems;
}

namespace {
/// For a list where one component belongs: the type that joins several into one, if there is one
/// (those are called Concat...).
std::string joins_several(const Config& c, const std::vector<std::string>& known) {
  if (!c.is_list()) return "";
  const auto joined = std::find_if(known.begin(), known.end(), [](const std::string& type) {
    return type.starts_with("Concat");
  });
  return joined == known.end() ? "" : text("; several are one ", *joined);
}

bool begins_with_vowel(std::string_view word) { return word.find_first_of("aeiou") == 0; }
}  // namespace

std::optional<std::string> detail::type_of(const Config& c, const std::string& path,
                                           std::string_view category,
                                           const std::vector<std::string>& known,
                                           Diagnostics& problems) {
  if (!c.is_map()) {
    wrong_type(c, path,
               text(begins_with_vowel(category) ? "an " : "a ", category, " (a mapping with 'type'",
                    joins_several(c, known), ")"),
               problems);
    return std::nullopt;
  }
  const Config::Item* type = c.find("type");
  if (!type) {
    problems.error(c.origin, path,
                   text("a ", category, " needs 'type'. Known: ", join(known, ", ")));
    return std::nullopt;
  }
  if (!type->value.is_scalar()) {
    wrong_type(type->value, path + ".type", "the name of a type", problems);
    return std::nullopt;
  }
  const std::string& name = type->value.scalar;
  return name.substr(name.rfind('.') + 1);  // npos + 1 is 0
}

void detail::unknown_type(const Config& c, const std::string& path, std::string_view category,
                          const std::string& type, const std::vector<std::string>& known,
                          Diagnostics& problems) {
  const Origin& where = c.find("type")->value.origin;
  if (const std::string reason = reason_left_out(category, type); !reason.empty()) {
    problems.error(where, path, text(type, " is left out: ", reason));
    return;
  }
  problems.error(where, path,
                 text("no ", category, " is called '", type, "'.", did_you_mean(type, known),
                      " Known: ", join(known, ", ")));
}

ConfigError detail::located(const OptionError& error, const Config& c, const std::string& path) {
  Diagnostics problems;
  Problems(c, path, problems).error(error.option(), error.what());
  if (error.besides()) problems.add(*error.besides());
  return ConfigError(problems);
}

OptionPlace detail::place_of(const Config& c, const std::string& path, const std::string& option) {
  // What is not written has a default; the nearest mapping around it may be written.
  for (std::string part = option; !part.empty();) {
    if (const Config* found = c.at_path(part)) {
      return {found->origin, path.empty() ? part : text(path, '.', part)};
    }
    const size_t dot = part.rfind('.');
    part.resize(dot == std::string::npos ? 0 : dot);
  }
  return {c.origin, path};
}

Config detail::parse_default(const std::string& yaml) { return parse_config(yaml, "<default>"); }

}  // namespace seg
