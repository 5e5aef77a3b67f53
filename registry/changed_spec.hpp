/// Specs with other options than their configuration gives.
#pragma once
#include <utility>

#include "registry/registry.hpp"

namespace seg {

/// A spec of a changed copy of `spec.config()`, at its place in the configuration.
/// \throws ConfigError where the copy does not fit.
template <class Base>
Spec<Base> changed_spec(const Spec<Base>& spec, const Config& config) {
  Diagnostics problems;
  auto changed = Spec<Base>::parse(config, spec.path(), problems);
  if (problems.has_errors()) throw ConfigError(problems);
  return std::move(*changed);
}

}  // namespace seg
