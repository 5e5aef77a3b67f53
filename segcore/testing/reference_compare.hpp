/// Compares numbers with those of a fixture, and keeps what was found.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace seg::reference {

/// One comparison: a tensor's worst place, a scalar, a count.
struct Quantity {
  std::string name;
  std::string expected, found;  ///< as shown to people
  double error = 0, allowed = 0;
  bool holds = false;
};

struct Comparison {
  std::vector<Quantity> quantities;
  bool same_order = true;  ///< the state dict's rows come in Python's order
  bool holds() const;
  /// "name  expected  found  error  allowed", one line per quantity; failures are marked.
  std::string text(bool failures_only = false) const;
};

/// Largest error in double precision, and in single.
struct Tolerance {
  double exact, single;
};

/// How numbers are shown to people.
std::string shown(double v);
/// "2x3x4"
std::string shape_text(const std::vector<int64_t>& shape);

/// Compares quantities one by one with those of a fixture, which outlives it.
class Comparer {
 public:
  Comparer(const nlohmann::json& fixture, bool single) : fixture_(fixture), single_(single) {}

  void equal(const std::string& name, const std::string& expected, const std::string& found);
  void scalar(const std::string& name, double expected, double found, double error, double allowed);
  /// The tensor `name` of the fixture: its shape, its statistics and some of its values.
  void tensor(const std::string& name, const at::Tensor& found);
  /// The list of tensors `name` of the fixture.
  void tensors(const std::string& name, const std::vector<at::Tensor>& found);
  /// Named scalars under `path` of the fixture; `floor` bounds what errors are relative to.
  void scalars(const std::vector<std::string>& path, const nlohmann::json& expected,
               const std::map<std::string, double>& found, const Tolerance& tolerance,
               double floor);

  Comparison out;

 private:
  void tensor(const std::string& name, const nlohmann::json& expected, const at::Tensor& found,
              double float32_error);
  double limit(const Tolerance& tolerance, double float32_error) const;

  const nlohmann::json& fixture_;
  bool single_;
};

}  // namespace seg::reference
