#include "registry/left_out.hpp"

#include <map>
#include <utility>

namespace seg {
namespace {

using LeftOutKey = std::pair<std::string, std::string>;

std::map<LeftOutKey, std::string>& left_out_reasons() {
  static std::map<LeftOutKey, std::string> reasons;
  return reasons;
}

}  // namespace

LeftOutTypes::LeftOutTypes(std::initializer_list<LeftOutType> types) {
  for (const LeftOutType& t : types) {
    left_out_reasons().emplace(LeftOutKey(t.category, t.type), t.reason);
  }
}

std::string reason_left_out(std::string_view category, std::string_view type) {
  const auto found = left_out_reasons().find(LeftOutKey(category, type));
  return found == left_out_reasons().end() ? "" : found->second;
}

std::string reason_left_out(std::string_view type) {
  for (const auto& [key, reason] : left_out_reasons()) {
    if (key.second == type) return reason;
  }
  return "";
}

}  // namespace seg
