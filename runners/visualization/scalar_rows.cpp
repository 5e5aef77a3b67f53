#include "runners/visualization/scalar_rows.hpp"

#include <cmath>
#include <nlohmann/json.hpp>

namespace seg {

bool is_whole_scalar(std::string_view name) {
  return name == "iter" || name == "epoch" || name == "memory" || name == "step";
}

std::string number_text(double value, std::string_view otherwise) {
  return std::isfinite(value) ? nlohmann::json(value).dump() : std::string(otherwise);
}

std::string scalar_row(const Scalars& scalars, int64_t step) {
  std::string out = "{";
  for (const auto& [name, value] : scalars) {
    constexpr auto kReplace = nlohmann::json::error_handler_t::replace;
    out += nlohmann::json(name).dump(-1, ' ', false, kReplace) + ": ";
    out += is_whole_scalar(name) && std::isfinite(value)
               ? std::to_string(static_cast<int64_t>(value))
               : number_text(value, "null");
    out += ", ";
  }
  return out + "\"step\": " + std::to_string(step) + "}";
}

}  // namespace seg
