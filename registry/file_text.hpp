/// Small files as text.
#pragma once
#include <optional>
#include <string>

namespace seg {

/// The bytes of a file; nothing where it cannot be opened or read to its end, as the disk fails or,
/// under /proc, its process ends meanwhile.
std::optional<std::string> file_text(const std::string& path);

}  // namespace seg
