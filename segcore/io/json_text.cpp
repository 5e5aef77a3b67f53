#include "segcore/io/json_text.hpp"

#include "registry/error.hpp"
#include "registry/text.hpp"

namespace seg {

nlohmann::json parse_json(std::span<const uint8_t> bytes, const std::string& path) {
  try {
    return nlohmann::json::parse(bytes.begin(), bytes.end());
  } catch (const nlohmann::json::parse_error& e) {
    throw DataError(e.byte > bytes.size()
                        ? text(path, ": the JSON in it is cut short")
                        : text(path, ": is no JSON: byte ", e.byte, " does not fit"));
  }
}

}  // namespace seg
