#include "registry/python_json.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <vector>

#include "registry/yaml_scalar.hpp"

namespace seg {
namespace {

std::string python_string(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', /*ensure_ascii=*/true,
                                   nlohmann::json::error_handler_t::replace);
}

/// Python's ints have no bounds: one that is no 64-bit number stays as it was written.
std::string python_int(const std::string& text) {
  const auto value = detail::int_value(text);
  return value ? std::to_string(*value) : text;
}

std::string json_float(const std::string& text) {
  const double value = detail::float_value(text).value_or(0);
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
  return python_float(value);
}

void append_python_json(const Config& node, std::string& out) {
  switch (node.kind) {
    case Config::Kind::kNull:
      out += "null";
      break;
    case Config::Kind::kBool:
      out += node.scalar[0] == 't' || node.scalar[0] == 'T' ? "true" : "false";
      break;
    case Config::Kind::kInt:
      out += python_int(node.scalar);
      break;
    case Config::Kind::kFloat:
      out += json_float(node.scalar);
      break;
    case Config::Kind::kString:
      out += python_string(node.scalar);
      break;
    case Config::Kind::kList: {
      out += '[';
      for (size_t i = 0; i < node.list.size(); ++i) {
        if (i) out += ',';
        append_python_json(node.list[i], out);
      }
      out += ']';
      break;
    }
    case Config::Kind::kMap: {
      std::vector<const Config::Item*> items;
      for (const Config::Item& item : node.map) items.push_back(&item);
      // UTF-8 has the order of its code points.
      std::sort(items.begin(), items.end(),
                [](const auto* a, const auto* b) { return a->key < b->key; });
      out += '{';
      for (size_t i = 0; i < items.size(); ++i) {
        if (i) out += ',';
        out += python_string(items[i]->key) + ':';
        append_python_json(items[i]->value, out);
      }
      out += '}';
      break;
    }
  }
}

}  // namespace

std::string python_float(double value) {
  // The fewest digits that read back to the number, as in Python; where the point stands differs.
  constexpr int kLeastFixed = -4, kMostFixed = 16;
  std::array<char, 40> buffer{};
  char* const first = buffer.data();
  char* last =
      std::to_chars(first, first + buffer.size(), value, std::chars_format::scientific).ptr;
  std::string scientific(first, last);
  const size_t e = scientific.find('e');
  if (e == std::string::npos) return scientific;  // inf and nan
  const int exponent = std::stoi(scientific.substr(e + 1));
  if (exponent < kLeastFixed || exponent >= kMostFixed) return scientific;
  last = std::to_chars(first, first + buffer.size(), value, std::chars_format::fixed).ptr;
  std::string fixed(first, last);
  if (fixed.find('.') == std::string::npos) fixed += ".0";
  return fixed;
}

std::string python_json(const Config& tree) {
  std::string out;
  append_python_json(tree, out);
  return out;
}

}  // namespace seg
