/// What stands between the text of a config and a parser of YAML: characters that no config holds,
/// this project's `{{...}}`, and mistakes that yaml-cpp overlooks or words badly.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace seg::detail {

/// The first thing that no configuration text can hold, as a message; its place in `at`.
std::string wrong_character(const std::string& text, size_t& at);

/// JSON writes characters beyond 16 bits as two escapes, "\ud83d\ude00", which YAML has as one,
/// "\U0001f600".
std::string with_joined_escapes(const std::string& text);

/// The text with each `{{...}}` written so that it is a plain text to YAML, of the same length.
std::string protect_templates(std::string text);
/// Puts `{{...}}` back into a scalar of a protected text.
std::string unprotect_templates(std::string text);

/// yaml-cpp reads the escapes \N and \_ as single bytes, which are no UTF-8.
std::string repaired_utf8(std::string text);

/// Whether the quotes that open at or after the place (counted from 0; a tag may come first) are
/// never closed, which yaml-cpp overlooks where the text ends in a line break.
bool quotes_stay_open(std::string_view text, int line, int column);

/// Whether a tab is part of the indentation of a line, counted from 0.
bool tab_indents(std::string_view text, int line);

}  // namespace seg::detail
