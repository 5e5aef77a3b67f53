/// Fixtures: files of numbers that Python implementations gave, and the models that they are of.
#pragma once
#include <c10/core/Device.h>

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "registry/config.hpp"
#include "segcore/testing/reference_compare.hpp"

namespace seg::reference {

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
  Comparison compare_encoder(bool single, c10::Device device) const;

  std::string path_;
  std::shared_ptr<const nlohmann::json> json_;
};

}  // namespace seg::reference
