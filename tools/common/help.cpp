#include "tools/common/help.hpp"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <sstream>

#include "registry/error.hpp"
#include "registry/terminal.hpp"

namespace seg {
namespace {

const std::map<int, std::string>& exit_code_meanings() {
  static const std::map<int, std::string> meanings{
      {0, "done"},
      {1, "an error in a configuration, the data or a file, told in one message"},
      {2, "a wrong command line"},
      {3, "weights that do not fit the model"},
      {20, "stopped by a signal; training has saved a checkpoint"},
      {21, "the loss is not finite"},
      {22, "another process of the run was lost"},
      {70, "an internal error: a fault of the program"}};
  return meanings;
}

/// Appends words in lines of at most `width` columns; all lines but the first begin with `indent`
/// blanks. The first begins at column `column`.
void wrap_words(std::string& out, const std::string& words, size_t column, size_t indent,
                size_t width) {
  std::istringstream in(words);
  bool first = true;
  for (std::string word; in >> word; first = false) {
    const size_t needed = word.size() + (first ? 0 : 1);
    if (!first && column + needed > width) {
      out += "\n" + std::string(indent, ' ') + word;
      column = indent + word.size();
    } else {
      out += (first ? "" : " ") + word;
      column += needed;
    }
  }
  out += "\n";
}

/// One row: a name, and its meaning beside it, or below where the name is long.
void help_row(std::string& out, const std::string& name, const std::string& meaning, size_t column,
              size_t width) {
  constexpr size_t kIndent = 2, kGap = 2;
  out += std::string(kIndent, ' ') + name;
  if (kIndent + name.size() + kGap > column) {
    out += "\n" + std::string(column, ' ');
  } else {
    out += std::string(column - kIndent - name.size(), ' ');
  }
  wrap_words(out, meaning, column, column, width);
}

std::string upper_word(std::string word) {
  std::transform(word.begin(), word.end(), word.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return word;
}

/// "-h, --help", "--work-dir DIR", "CONFIG".
std::string option_name(const CLI::Option& option) {
  if (option.get_positional()) return upper_word(option.get_name());
  std::vector<std::string> names;
  for (const auto& name : option.get_snames()) names.push_back("-" + name);
  for (const auto& name : option.get_lnames()) names.push_back("--" + name);
  const std::string type = option.get_items_expected_max() > 0 ? option.get_type_name() : "";
  return join(names, ", ") + (type.empty() ? "" : " " + type);
}

/// "train CONFIG [options]"; required options are named.
std::string usage_of(const CLI::App& app) {
  std::string out = app.get_name();
  for (const CLI::Option* option : app.get_options()) {
    if (!option->get_positional()) continue;
    std::string name = option_name(*option);
    if (option->get_items_expected_max() > 1) name += "...";
    out += option->get_required() ? " " + name : " [" + name + "]";
  }
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_required() && !option->get_positional()) out += " " + option_name(*option);
  }
  return out + " [options]";
}

class HelpFormatter final : public CLI::FormatterBase {
 public:
  explicit HelpFormatter(HelpFacts facts) : facts_(std::move(facts)) {}
  std::string make_help(const CLI::App* app, std::string, CLI::AppFormatMode) const override {
    return help_text(*app, facts_, terminal_width(STDOUT_FILENO));
  }

 private:
  HelpFacts facts_;
};

}  // namespace

void add_help(CLI::App& app, const HelpFacts& facts) {
  app.set_help_flag("-h,--help", "print this text");
  app.get_option("--version")->description("print the version");
  app.formatter(std::make_shared<HelpFormatter>(facts));
}

std::string help_text(const CLI::App& app, const HelpFacts& facts, int columns) {
  const auto width = static_cast<size_t>(columns);
  const size_t column = width >= 70 ? 24 : 6;
  std::string out;
  wrap_words(out, app.get_description(), 0, 0, width);
  out += "\nusage: ";
  wrap_words(out, usage_of(app), 7, 7, width);
  for (const bool positional : {true, false}) {
    std::string rows;
    for (const CLI::Option* option : app.get_options()) {
      if (option->get_positional() != positional) continue;
      help_row(rows, option_name(*option), option->get_description(), column, width);
    }
    if (!rows.empty()) out += (positional ? "\narguments:\n" : "\noptions:\n") + rows;
  }
  out += "\nexit codes:\n";
  for (const auto& [code, meaning] : exit_code_meanings()) {
    const bool all = code <= 2 || code == 70;
    const auto& own = facts.exit_codes;
    if (!all && std::find(own.begin(), own.end(), code) == own.end()) continue;
    help_row(out, std::to_string(code), meaning, 6, width);
  }
  // Not wrapped: it is to be copied.
  return out + "\nexample:\n  " + facts.example + "\n";
}

}  // namespace seg
