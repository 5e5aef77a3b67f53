/// Tables as text.
#pragma once
#include <string>
#include <vector>

namespace seg {

using TableRow = std::vector<std::string>;

/// Rows below each other in columns, without the columns at the right that do not fit; the first
/// column is aligned left.
/// \param width  in characters; 0: any.
std::string aligned_table(const std::vector<TableRow>& rows, int width);
/// With quotes where a cell needs them.
std::string csv_table(const std::vector<TableRow>& rows);
/// The first row is the head; columns after the first are aligned right.
std::string markdown_table(const std::vector<TableRow>& rows);

}  // namespace seg
