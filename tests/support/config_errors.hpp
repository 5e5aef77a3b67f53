/// What a configuration is complained about, as text, to be compared word for word.
#pragma once
#include <string>

#include "registry/config.hpp"
#include "registry/registry.hpp"

namespace seg::test {

/// The text of the ConfigError that `f` throws; "no error" if it throws none.
template <class F>
std::string config_error(F&& f) {
  try {
    f();
  } catch (const ConfigError& e) {
    return e.what();
  }
  return "no error";
}

/// The same for one component: spec_error<Loss>("{type: DiceLos}").
template <class Base>
std::string spec_error(const std::string& yaml) {
  return config_error([&] { Spec<Base>::of(yaml); });
}

/// What is warned of in a component that has no errors; "" if nothing is.
template <class Base>
std::string spec_warnings(const std::string& yaml) {
  Diagnostics problems;
  if (!Spec<Base>::parse(detail::parse_default(yaml), "", problems)) return problems.text();
  return problems.warnings_text();
}

}  // namespace seg::test
