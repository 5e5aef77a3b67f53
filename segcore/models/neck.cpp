#include "segcore/models/neck.hpp"

namespace seg {

void check_in_channels(const std::optional<std::vector<int64_t>>& given,
                       const std::vector<FeatureInfo>& inputs) {
  if (!given) return;
  std::vector<int64_t> widths;
  for (const auto& input : inputs) widths.push_back(input.channels);
  if (*given == widths) return;
  throw OptionError("in_channels",
                    text("is [", join(*given, ", "), "], but the backbone gives [",
                         join(widths, ", "), "]. Leave it out to take what the backbone gives"));
}

}  // namespace seg
