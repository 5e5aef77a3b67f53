/// Reads files of JSON.
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

namespace seg {

/// \param path  for the messages.
/// \throws DataError naming the file and the byte where it is no JSON.
nlohmann::json parse_json(std::span<const uint8_t> bytes, const std::string& path);

}  // namespace seg
