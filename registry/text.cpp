#include "registry/text.hpp"

#include <algorithm>
#include <cctype>

namespace seg {
namespace {

/// Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours. Letters
/// that differ only in case cost nothing here, so that 'segformerhead' finds 'SegformerHead'.
size_t edit_distance(std::string_view a, std::string_view b) {
  auto same = [](char x, char y) {
    return std::tolower(static_cast<unsigned char>(x)) ==
           std::tolower(static_cast<unsigned char>(y));
  };
  std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substitution = d[i - 1][j - 1] + (same(a[i - 1], b[j - 1]) ? 0 : 1);
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, substitution});
      if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1])) {
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
      }
    }
  }
  return d[a.size()][b.size()];
}

}  // namespace

std::string did_you_mean(std::string_view wrong, const std::vector<std::string>& known) {
  // Nobody mistypes one of a hundred letters; the table of distances would only be large.
  constexpr size_t kLongestName = 100;
  if (wrong.empty() || wrong.size() > kLongestName) return {};
  const size_t allowed = wrong.size() <= 2 ? 1 : std::max<size_t>(2, wrong.size() / 3);
  const std::string* best = nullptr;
  size_t best_distance = allowed + 1;
  for (const std::string& name : known) {
    if (name.size() > kLongestName || name == wrong) continue;
    const size_t d = edit_distance(wrong, name);
    // As far as from an empty word: the two have nothing in common.
    if (d < best_distance && d < std::max(wrong.size(), name.size())) {
      best = &name;
      best_distance = d;
    }
  }
  // 'Segformer' for 'SegformerHead'; longer words may have a letter wrong: 'EarlyStoping'.
  if (!best && wrong.size() >= 3) {
    size_t beginning_distance = wrong.size() >= 6 ? 2 : 1;
    for (const std::string& name : known) {
      if (name.size() <= wrong.size()) continue;
      for (size_t length = wrong.size() - 1; length <= wrong.size() + 1; ++length) {
        const size_t d = edit_distance(wrong, std::string_view(name).substr(0, length));
        if (d >= beginning_distance) continue;
        best = &name;
        beginning_distance = d;
      }
    }
  }
  return best ? text(" Did you mean '", *best, "'?") : "";
}

}  // namespace seg
