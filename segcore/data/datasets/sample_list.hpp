/// What the lines of a list of samples mean.
#pragma once
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "segcore/data/text_list.hpp"

namespace seg {

/// As os.path.join of Python: an absolute second part replaces the first.
std::string join_dataset_path(const std::string& folder, const std::string& name);

/// The path of a file that a list names below a folder. A backslash separates folders and a slash
/// in front means the folder itself where a file is found so and not by the name as it stands.
std::string listed_path(const std::string& folder, const std::string& name);

/// Divides lines into image and annotation.
class SampleLines {
 public:
  SampleLines(std::string list, std::vector<std::string> img_suffixes,
              std::vector<std::string> seg_suffixes)
      : list_(std::move(list)),
        img_suffixes_(std::move(img_suffixes)),
        seg_suffixes_(std::move(seg_suffixes)) {}

  using Pair = std::pair<std::string, std::string>;
  /// The two paths of a line, which end as their suffixes say and have blanks, a tab, a comma or a
  /// semicolon between them; nothing where the line is one name, which may hold all of these.
  /// \param exists  whether both files are there; decides where a line can be divided in two ways.
  /// \throws DataError where it can all the same.
  template <class Exists>
  std::optional<Pair> pair(const TextLine& line, const Exists& exists) const {
    std::vector<Pair> ways = divisions(line.text);
    if (ways.size() > 1) {
      std::erase_if(ways, [&](const Pair& way) { return !exists(way); });
      if (ways.size() != 1) throw_ambiguous(line);
    }
    return ways.empty() ? std::nullopt : std::optional(ways[0]);
  }

  /// Of a line whose image is missing: an error that says which character of it may be why; returns
  /// where there is none.
  void report_trouble(const TextLine& line, const std::string& image) const;

 private:
  std::vector<Pair> divisions(const std::string& line) const;
  [[noreturn]] void throw_ambiguous(const TextLine& line) const;
  std::string pair_rule() const;

  std::string list_;
  std::vector<std::string> img_suffixes_, seg_suffixes_;
};

}  // namespace seg
