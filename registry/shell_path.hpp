/// Paths as a shell would read them, for words that no shell has read.
#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace seg {

/// "~/runs", "$HOME/runs" and "${HOME}/runs" with the folder that they stand for; other texts as
/// they are.
/// \return nothing where the variable is not set.
std::optional<std::string> expand_shell_path(const std::string& path);

/// The variable that such a text begins with: "HOME"; "" for other texts.
std::string_view shell_variable(std::string_view path);

}  // namespace seg
