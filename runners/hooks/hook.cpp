#include "runners/hooks/hook.hpp"

#include <algorithm>
#include <array>

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

/// "VERY_HIGH" for 10; the number for others.
std::string priority_text(int priority) {
  for (const auto& [name, value] : kPriorityNames) {
    if (value == priority) return std::string(name);
  }
  return text(priority);
}

}  // namespace

Schema<HookParams> HookParams::schema() {
  return Schema<HookParams>("The options of every hook.")
      .optional("priority", &HookParams::priority,
                "place in the order of hooks: 0 (first) to 100, or a name such as NORMAL (50)")
      .validate([](const HookParams& p, Problems& problems) {
        if (p.priority && priority_of(*p.priority) < 0) {
          std::vector<std::string_view> names;
          for (const auto& [name, value] : kPriorityNames) names.push_back(name);
          problems.error("priority",
                         "expected a number from 0 to 100 or one of " + join(names, ", "));
        }
      });
}

Hook::Hook(const HookParams& params, Priority usual)
    : priority_(params.priority ? priority_of(*params.priority) : static_cast<int>(usual)) {}

Hooks::Hooks(std::vector<HookEntry> entries) : entries_(std::move(entries)) {
  std::stable_sort(entries_.begin(), entries_.end(), [](const HookEntry& a, const HookEntry& b) {
    return a.hook->priority() < b.hook->priority();
  });
}

std::vector<CheckpointPart*> Hooks::checkpoint_parts() const {
  std::vector<CheckpointPart*> out;
  for (const HookEntry& entry : entries_) out.push_back(entry.hook.get());
  return out;
}

std::string Hooks::listing() const {
  std::string lines;
  for (const HookEntry& entry : entries_) {
    std::string name = priority_text(entry.hook->priority());
    name.resize(std::max<size_t>(name.size(), 12), ' ');
    lines += text("\n(", name, ") ", entry.type);
  }
  return lines;
}

const std::vector<std::pair<std::string, std::string>>& default_hook_roles() {
  static const std::vector<std::pair<std::string, std::string>> roles{
      {"runtime_info", "RuntimeInfoHook"},       {"timer", "IterTimerHook"},
      {"sampler_seed", "DistSamplerSeedHook"},   {"logger", "LoggerHook"},
      {"param_scheduler", "ParamSchedulerHook"}, {"checkpoint", "CheckpointHook"},
      {"visualization", "SegVisualizationHook"}};
  return roles;
}

Hooks build_hooks(const std::map<std::string, std::optional<Spec<Hook>>>& roles,
                  const std::vector<Spec<Hook>>& custom) {
  std::vector<HookEntry> out;
  const auto add = [&](const Spec<Hook>& spec) { out.push_back({spec.type(), spec.build()}); };
  auto others = roles;
  for (const auto& [role, type] : default_hook_roles()) {
    const auto given = others.extract(role);
    if (given.empty()) {
      // Pictures are drawn only where a config asks for them.
      if (role != "visualization") add(Spec<Hook>::of("{type: " + type + "}"));
    } else if (given.mapped()) {
      add(*given.mapped());
    }
  }
  for (const auto& [role, spec] : others) {
    if (spec) add(*spec);
  }
  for (const auto& spec : custom) add(spec);
  // A run without this check would write checkpoints full of NaN.
  const bool checked = std::any_of(
      out.begin(), out.end(), [](const HookEntry& entry) { return entry.hook->checks_loss(); });
  if (!checked) add(Spec<Hook>::of("{type: CheckInvalidLossHook, interval: 1}"));
  return Hooks(std::move(out));
}

}  // namespace seg
