#include "runners/sweep/text_table.hpp"

#include <algorithm>

#include "registry/text.hpp"

namespace seg {
namespace {

std::string csv_cell(const std::string& words) {
  if (words.find_first_of(",\"\n") == std::string::npos) return words;
  std::string out = "\"";
  for (const char c : words) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

}  // namespace

std::string aligned_table(const std::vector<TableRow>& rows, int width) {
  std::vector<size_t> widths;
  for (const TableRow& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  constexpr size_t kGap = 2;
  size_t columns = 0;
  for (size_t total = 0; columns < widths.size(); ++columns) {
    total += widths[columns] + (columns > 0 ? kGap : 0);
    if (width > 0 && columns > 0 && total > static_cast<size_t>(width)) break;
  }
  std::string out;
  for (const TableRow& row : rows) {
    std::string line;
    for (size_t i = 0; i < std::min(columns, row.size()); ++i) {
      const std::string space(widths[i] - row[i].size(), ' ');
      line += (i > 0 ? std::string(kGap, ' ') : "") + (i == 0 ? row[i] + space : space + row[i]);
    }
    out += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return out;
}

std::string csv_table(const std::vector<TableRow>& rows) {
  std::string out;
  for (const TableRow& row : rows) {
    TableRow cells;
    for (const std::string& cell : row) cells.push_back(csv_cell(cell));
    out += join(cells, ",") + "\n";
  }
  return out;
}

std::string markdown_table(const std::vector<TableRow>& rows) {
  std::string out;
  for (size_t i = 0; i < rows.size(); ++i) {
    out += "| " + join(rows[i], " | ") + " |\n";
    if (i > 0) continue;
    out += "|";
    for (size_t column = 0; column < rows[0].size(); ++column)
      out += column == 0 ? " --- |" : " ---: |";
    out += "\n";
  }
  return out;
}

}  // namespace seg
