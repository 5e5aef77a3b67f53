/// Types that configs of Python name and that are left out here, each with the reason: more help
/// than that the name is unknown.
#pragma once
#include <initializer_list>
#include <string>
#include <string_view>

namespace seg {

struct LeftOutType {
  std::string_view category;  ///< `Category<Base>::name`
  std::string_view type;
  /// Continues "TYPE is left out: " and names what stands for it.
  std::string_view reason;
};

/// Adds a table; in a .cpp, at namespace scope.
class LeftOutTypes {
 public:
  LeftOutTypes(std::initializer_list<LeftOutType> types);
};

/// The reason, or "" for a type that is not in a table.
std::string reason_left_out(std::string_view category, std::string_view type);
/// That of any category.
std::string reason_left_out(std::string_view type);

}  // namespace seg
