#include "segcore/testing/parity.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iomanip>
#include <map>
#include <sstream>

#include "registry/error.hpp"
#include "registry/text.hpp"
#include "segcore/testing/reference.hpp"
#include "segcore/torch.hpp"

namespace seg::reference {
namespace {

/// 3e-13
std::string parity_error(double error) {
  if (error < 0) return "";
  std::ostringstream out;
  out << std::setprecision(1) << std::scientific << error;
  return error == 0 ? "0" : out.str();
}

/// How far a quantity is off, in what it may be.
double excess(const Quantity& q) {
  return q.allowed > 0 && std::isfinite(q.error) ? q.error / q.allowed
                                                 : std::numeric_limits<double>::infinity();
}

std::string worst_of(const Comparison& comparison) {
  const Quantity* worst = nullptr;
  size_t wrong = 0;
  for (const auto& q : comparison.quantities) {
    if (q.holds) continue;
    ++wrong;
    if (!worst || excess(q) > excess(*worst)) worst = &q;
  }
  if (!worst) return "";
  const double times = excess(*worst);
  return seg::text(
      wrong, " of ", comparison.quantities.size(), " differ, first of all ", worst->name, ": ",
      worst->found, " for ", worst->expected,
      std::isfinite(times) ? ", " + parity_error(times) + " times what is allowed" : std::string());
}

size_t count(const std::vector<FixtureResult>& results, FixtureResult::Kind kind) {
  return static_cast<size_t>(
      std::ranges::count_if(results, [&](const auto& r) { return r.kind == kind; }));
}

/// Text of a table's cell: on one line, without what would end it.
std::string cell(std::string text) {
  std::ranges::replace(text, '\n', ' ');
  std::ranges::replace(text, '|', '/');
  return text;
}

}  // namespace

std::vector<std::string> fixtures_below(const std::string& folder, const std::string& filter) {
  std::vector<std::string> files;
  if (!std::filesystem::is_directory(folder)) return files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    const std::string path = std::filesystem::relative(entry.path(), folder).string();
    if (entry.path().extension() == ".json" && path.find(filter) != std::string::npos) {
      files.push_back(entry.path().string());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

FixtureResult run_fixture(const std::string& folder, const std::string& file) {
  FixtureResult result;
  result.name = std::filesystem::relative(file, folder).replace_extension().string();
  try {
    const Fixture fixture(file);
    if (result.why = fixture.not_there_yet(); !result.why.empty()) {
      result.kind = FixtureResult::Kind::kNotThereYet;
      return result;
    }
    const Comparison comparison = fixture.compare();
    for (const auto& q : comparison.quantities) {
      if (q.allowed == 0) continue;  // counts and shapes: they are equal or not
      if (q.name.find("logits") != std::string::npos)
        result.logits = std::max(result.logits, q.error);
      if (q.name.starts_with("gradients")) result.gradients = std::max(result.gradients, q.error);
    }
    result.kind = comparison.holds() ? FixtureResult::Kind::kHolds : FixtureResult::Kind::kFails;
    result.why = worst_of(comparison);
  } catch (const c10::Error& e) {
    result.why = e.what_without_backtrace();
  } catch (const std::exception& e) {
    result.why = e.what();
  }
  return result;
}

std::string totals(const std::vector<FixtureResult>& results) {
  const size_t fails = count(results, FixtureResult::Kind::kFails);
  const size_t absent = count(results, FixtureResult::Kind::kNotThereYet);
  return seg::text(count(results, FixtureResult::Kind::kHolds), " hold, ", fails,
                   fails == 1 ? " fails, " : " fail, ", absent,
                   absent == 1 ? " is not supported yet" : " are not supported yet");
}

std::string parity_report(const std::vector<FixtureResult>& results) {
  std::map<std::string, std::vector<FixtureResult>> by_folder;
  for (const auto& r : results) {
    by_folder[std::filesystem::path(r.name).parent_path().string()].push_back(r);
  }
  std::ostringstream out;
  out << "# Parity with the Python implementations\n\n"
         "A fixture holds the numbers of a model in Python: its tensors' names, shapes and types, "
         "and, for\nweights, an image and labels that a formula gives, its features, logits, "
         "losses, gradients and moved\nbuffers. Here the same model computed them, in double "
         "precision on a CPU. Errors of logits are\nrelative to their standard deviation (1e-6 "
         "is allowed), those of gradients to their norm (1e-5).\nThis file is written by "
         "`tools/parity`.\n\n"
      << results.size() << " fixtures: " << totals(results) << ".\n";
  for (const auto& [folder, part] : by_folder) {
    out << "\n## " << (folder.empty() ? "." : folder) << "\n\n" << totals(part) << ".\n";
    std::ostringstream absent;
    bool heading = false;
    for (const auto& r : part) {
      const std::string name = std::filesystem::path(r.name).filename().string();
      if (r.kind == FixtureResult::Kind::kNotThereYet) {
        absent << "- " << name << ": " << r.why << "\n";
        continue;
      }
      if (!heading) {
        out << "\n| fixture | result | logits | gradients |\n|---|---|---|---|\n";
        heading = true;
      }
      out << "| " << name << " | "
          << (r.kind == FixtureResult::Kind::kHolds ? "holds" : "fails: " + cell(r.why)) << " | "
          << parity_error(r.logits) << " | " << parity_error(r.gradients) << " |\n";
    }
    if (!absent.str().empty()) out << "\nNot there yet:\n\n" << absent.str();
  }
  return out.str();
}

}  // namespace seg::reference
