/// The results of the fixtures of a folder, as a table.
#pragma once
#include <string>
#include <vector>

namespace seg::reference {

/// The result of one fixture.
struct FixtureResult {
  enum class Kind { kHolds, kFails, kNotThereYet };
  std::string name;  ///< path below the folder, without ".json"
  Kind kind = Kind::kFails;
  std::string why;                     ///< the quantity furthest off, or the missing type
  double logits = -1, gradients = -1;  ///< worst errors; below 0: nothing was compared
};

/// The fixtures below a folder whose path contains `filter`, in order.
std::vector<std::string> fixtures_below(const std::string& folder, const std::string& filter = "");
/// Runs a fixture in double precision on the CPU. Nothing is thrown: an exception is a result.
FixtureResult run_fixture(const std::string& folder, const std::string& file);
/// "2 hold, 1 fails, 3 are not supported yet".
std::string totals(const std::vector<FixtureResult>& results);
/// All results as Markdown, a section for each folder.
std::string parity_report(const std::vector<FixtureResult>& results);

}  // namespace seg::reference
