/// Reference numbers of Python implementations: the formulas that give weights, images and labels,
/// and the comparison of a model with a fixture that Python made from the same.
#pragma once
#include <torch/nn/module.h>

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "registry/config.hpp"

namespace seg::reference {

/// The hash that seeds the numbers of a name.
uint64_t fnv1a(std::string_view name);
/// `count` numbers in [0, 1) that belong to a name; float64, exact in float32.
torch::Tensor uniform(std::string_view name, int64_t count);
/// The source of the random numbers that fixtures' models draw in their forward pass: those of the
/// name "rand", the same in every draw of a shape.
torch::Tensor random_numbers(at::IntArrayRef shape, const at::TensorOptions& options);
/// Values of the tensor `name` of a state dict, float64 of float32 values; nothing for integers,
/// which keep their values.
torch::Tensor weight_values(std::string_view name, const torch::Tensor& like, double gain);
/// Fills all floating point tensors of a model.
void fill(torch::nn::Module& model, double gain);
/// Images [N, C, H, W], float64.
torch::Tensor image(const std::vector<int64_t>& shape);
/// Labels [N, H, W], int64: blocks of 8x8 pixels; with `ignored` one in 16 is 255.
torch::Tensor labels(const std::vector<int64_t>& shape, int64_t classes, bool ignored = true);
/// Boundary maps [N, H, W], int64: blocks of 4x4 pixels.
torch::Tensor edges(const std::vector<int64_t>& shape);

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

/// A fixture file.
class Fixture {
 public:
  /// \throws DataError where the file is missing or is no fixture.
  explicit Fixture(const std::string& path);
  /// Why it cannot run yet: models or a type that are not registered; "" where it can. compare()
  /// reports other mistakes of its configuration.
  std::string not_there_yet() const;
  /// Builds the model of the fixture, or `model`, and compares every quantity of the fixture.
  /// \param single  computes in float32 instead of float64, with wider tolerances.
  /// \param device  what computes; its libraries are loaded already.
  /// \throws ConfigError where the model cannot be built.
  Comparison compare(bool single = false, const std::optional<Config>& model = {},
                     c10::Device device = c10::kCPU) const;
  const std::string& path() const { return path_; }
  /// The model's configuration.
  Config model() const;

 private:
  std::string path_;
  std::shared_ptr<const nlohmann::json> json_;
};

}  // namespace seg::reference
