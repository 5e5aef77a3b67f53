#include "segcore/testing/reference_compare.hpp"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <sstream>

#include "registry/text.hpp"
#include "segcore/torch.hpp"

namespace seg::reference {

using nlohmann::json;

namespace {

constexpr Tolerance kTensorTolerance{1e-6, 1e-4};

/// The error of Python's own single precision, or 0 where the fixture has none.
double error_at(const json& errors, const std::vector<std::string>& path) {
  const json* node = &errors;
  for (const auto& key : path) {
    if (node->is_array()) {
      const size_t i = std::stoul(key);
      if (i >= node->size()) return 0;
      node = &(*node)[i];
    } else {
      const auto it = node->find(key);
      if (it == node->end()) return 0;
      node = &*it;
    }
  }
  return node->is_number() ? node->get<double>() : 0;
}

}  // namespace

std::string shown(double v) {
  std::ostringstream out;
  out << std::setprecision(10) << v;
  return out.str();
}

std::string shape_text(const std::vector<int64_t>& shape) { return join(shape, "x"); }

bool Comparison::holds() const {
  return std::all_of(quantities.begin(), quantities.end(), [](const auto& q) { return q.holds; });
}

std::string Comparison::text(bool failures_only) const {
  std::ostringstream out;
  out << std::setprecision(3);
  for (const auto& q : quantities) {
    if (failures_only && q.holds) continue;
    out << (q.holds ? "ok    " : "WRONG ") << q.name << "  expected " << q.expected << "  found "
        << q.found << "  error " << q.error << "  allowed " << q.allowed << "\n";
  }
  return out.str();
}

void Comparer::equal(const std::string& name, const std::string& expected,
                     const std::string& found) {
  out.quantities.push_back(
      {name, expected, found, expected == found ? 0.0 : 1.0, 0, expected == found});
}

void Comparer::scalar(const std::string& name, double expected, double found, double error,
                      double allowed) {
  out.quantities.push_back({name, shown(expected), shown(found), error, allowed, error <= allowed});
}

double Comparer::limit(const Tolerance& tolerance, double float32_error) const {
  return single_ ? std::max(tolerance.single, 20 * float32_error) : tolerance.exact;
}

void Comparer::tensor(const std::string& name, const json& expected, const torch::Tensor& found,
                      double float32_error) {
  const auto shape = expected.at("shape").get<std::vector<int64_t>>();
  if (found.sizes() != at::IntArrayRef(shape)) {
    equal(name + ".shape", shape_text(shape), shape_text(found.sizes().vec()));
    return;
  }
  const auto flat = found.detach().to(torch::kFloat64).flatten();
  const double std = expected.at("std"), low = expected.at("min"), high = expected.at("max");
  const double scale = std::max({std, 1e-6 * std::max(std::abs(low), std::abs(high)), 1e-30});
  Quantity worst{name, "", "", -1, limit(kTensorTolerance, float32_error), true};
  const auto compare = [&](const std::string& what, double e, double f) {
    const double error = std::abs(e - f) / scale;
    // A value that is not a number must not pass as small.
    if (!(error <= worst.error)) {
      worst.name = name + "." + what;
      worst.expected = shown(e);
      worst.found = shown(f);
      worst.error = error;
    }
  };
  compare("mean", expected.at("mean"), flat.mean().item<double>());
  compare("std", std, flat.std(/*unbiased=*/false).item<double>());
  compare("min", low, flat.min().item<double>());
  compare("max", high, flat.max().item<double>());
  const auto index = expected.at("index").get<std::vector<int64_t>>();
  const auto value = expected.at("value").get<std::vector<double>>();
  for (size_t i = 0; i < index.size(); ++i) {
    compare(text("[", index[i], "]"), value[i], flat[index[i]].item<double>());
  }
  worst.holds = worst.error <= worst.allowed;
  out.quantities.push_back(worst);
}

void Comparer::tensor(const std::string& name, const at::Tensor& found) {
  tensor(name, fixture_.at(name), found, error_at(fixture_.at("float32_error"), {name}));
}

void Comparer::tensors(const std::string& name, const std::vector<torch::Tensor>& found) {
  const auto& expected = fixture_.at(name);
  if (expected.size() != found.size()) {
    equal(name, text(expected.size(), " tensors"), text(found.size(), " tensors"));
    return;
  }
  for (size_t i = 0; i < found.size(); ++i) {
    tensor(text(name, "[", i, "]"), expected[i], found[i],
           error_at(fixture_.at("float32_error"), {name, std::to_string(i)}));
  }
}

void Comparer::scalars(const std::vector<std::string>& path, const json& expected,
                       const std::map<std::string, double>& found, const Tolerance& tolerance,
                       double floor) {
  const std::string prefix = join(path, ".") + ".";
  for (const auto& [key, value] : expected.items()) {
    const auto it = found.find(key);
    const double e = value;
    if (it == found.end()) {
      equal(prefix + key, shown(e), "nothing");
      continue;
    }
    if (key.find("acc") != std::string::npos) {
      // In percent: in single precision one pixel that changes its class is no error.
      scalar(prefix + key, e, it->second, std::abs(e - it->second), single_ ? 0.1 : 1e-4);
      continue;
    }
    auto where = path;
    where.push_back(key);
    scalar(prefix + key, e, it->second,
           std::abs(e - it->second) / std::max({std::abs(e), floor, 1e-30}),
           limit(tolerance, error_at(fixture_.at("float32_error"), where)));
  }
}

}  // namespace seg::reference
