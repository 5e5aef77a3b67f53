#include "runners/hooks/hook.hpp"

#include <algorithm>
#include <array>

#include "runners/start/run_config.hpp"

namespace seg {
namespace {

constexpr std::array<std::pair<std::string_view, int>, 9> kPriorityNames{{
    {"HIGHEST", 0},
    {"VERY_HIGH", 10},
    {"HIGH", 30},
    {"ABOVE_NORMAL", 40},
    {"NORMAL", 50},
    {"BELOW_NORMAL", 60},
    {"LOW", 70},
    {"VERY_LOW", 90},
    {"LOWEST", 100},
}};

/// The number of a name or of a number of 0 to 100; negative for neither.
int priority_of(const std::variant<int64_t, std::string>& given) {
  if (const auto* number = std::get_if<int64_t>(&given)) {
    return *number >= 0 && *number <= 100 ? static_cast<int>(*number) : -1;
  }
  std::string upper = std::get<std::string>(given);
  std::transform(upper.begin(), upper.end(), upper.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  for (const auto& [name, value] : kPriorityNames) {
    if (name == upper) return value;
  }
  return -1;
}

}  // namespace

Schema<HookParams> HookParams::schema() {
  return Schema<HookParams>("What all hooks have.")
      .optional("priority", &HookParams::priority,
                "place in the order of hooks: 0 (first) to 100, or a name as NORMAL (50)")
      .validate([](const HookParams& p, Problems& problems) {
        if (p.priority && priority_of(*p.priority) < 0) {
          std::vector<std::string_view> names;
          for (const auto& [name, value] : kPriorityNames) names.push_back(name);
          problems.error("priority",
                         "expected a number of 0 to 100 or one of " + join(names, ", "));
        }
      });
}

Hook::Hook(const HookParams& params, Priority usual)
    : priority_(params.priority ? priority_of(*params.priority) : static_cast<int>(usual)) {}

std::string priority_text(int priority) {
  for (const auto& [name, value] : kPriorityNames) {
    if (value == priority) return std::string(name);
  }
  return text(priority);
}

std::vector<HookEntry> build_hooks(const RunConfig& config) {
  std::vector<HookEntry> out;
  const auto add = [&](const Spec<Hook>& spec) { out.push_back({spec.type(), spec.build()}); };
  for (const auto& [role, type] : default_hook_roles()) {
    const auto given = config.default_hooks.find(role);
    if (given == config.default_hooks.end()) {
      // Pictures are drawn only where a config asks for them.
      if (role != "visualization") add(Spec<Hook>::of("{type: " + type + "}"));
    } else if (given->second) {
      add(*given->second);
    }
  }
  for (const auto& [role, spec] : config.default_hooks) {
    const auto& known = default_hook_roles();
    const bool is_role = std::any_of(known.begin(), known.end(),
                                     [&r = role](const auto& entry) { return entry.first == r; });
    if (!is_role && spec) add(*spec);
  }
  if (config.custom_hooks) {
    for (const auto& spec : *config.custom_hooks) add(spec);
  }
  // A run without this watch would write checkpoints of nothing but NaN.
  const bool watched = std::any_of(out.begin(), out.end(), [](const HookEntry& entry) {
    return entry.type == "CheckInvalidLossHook";
  });
  if (!watched) add(Spec<Hook>::of("{type: CheckInvalidLossHook, interval: 1}"));
  std::stable_sort(out.begin(), out.end(), [](const HookEntry& a, const HookEntry& b) {
    return a.hook->priority() < b.hook->priority();
  });
  return out;
}

}  // namespace seg
