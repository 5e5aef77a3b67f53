#include "segcore/io/weight_names.hpp"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <map>
#include <regex>
#include <unordered_map>
#include <unordered_set>

#include "registry/error.hpp"
#include "registry/log.hpp"

namespace seg {
namespace {

/// A replacement in the syntax of Python's re.sub as std::regex_replace wants it.
std::string name_replacement(const std::string& python) {
  static const std::regex group(R"(\\g<(\d{1,2})>|\\(\d{1,2}))");
  std::string out;
  size_t done = 0;
  for (std::sregex_iterator it(python.begin(), python.end(), group), end; it != end; ++it) {
    const std::string number = (*it)[1].matched ? (*it)[1].str() : (*it)[2].str();
    out += python.substr(done, static_cast<size_t>(it->position()) - done);
    // Always two digits, so that no digit behind it belongs to the number.
    out += (number.size() == 1 ? "$0" : "$") + number;
    done = static_cast<size_t>(it->position() + it->length());
  }
  out += python.substr(done);
  return std::regex_replace(out, std::regex(R"(\\(.))"), "$1");
}

/// Words that stand for a wrapper wherever they are in a name: torch.compile, FSDP, recomputation.
constexpr std::string_view kWrapperWords[] = {"_orig_mod.", "_fsdp_wrapped_module.",
                                              "_checkpoint_wrapped_module."};
/// DataParallel's, which is a wrapper only in front of a name.
constexpr std::string_view kLeadingWrapper = "module.";
/// Lightning's and other programs' attribute for the model.
constexpr std::string_view kModelWord = "model.";

/// A name without the words of wrappers, which are added to `removed`.
std::string unwrapped(const std::string& name, std::string& removed) {
  std::string out;
  for (size_t at = 0; at < name.size();) {
    const std::string_view rest = std::string_view(name).substr(at);
    const auto* word = std::find_if(std::begin(kWrapperWords), std::end(kWrapperWords),
                                    [&](std::string_view w) { return rest.starts_with(w); });
    if (word != std::end(kWrapperWords)) {
      removed += *word;
      at += word->size();
    } else if (out.empty() && rest.starts_with(kLeadingWrapper)) {
      removed += kLeadingWrapper;
      at += kLeadingWrapper.size();
    } else {
      const size_t next = std::min(name.find('.', at), name.size() - 1) + 1;
      out += name.substr(at, next - at);
      at = next;
    }
  }
  return out;
}

/// Names without the words of wrappers; says what was removed.
class WrapperRemoval {
 public:
  WrapperRemoval(NamedTensors& tensors, const std::string& where)
      : tensors_(tensors), where_(where) {}

  void remove_wrappers() {
    std::unordered_set<std::string> names;
    for (const auto& [name, tensor] : tensors_) names.insert(name);
    removed_.resize(tensors_.size());
    for (size_t i = 0; i < tensors_.size(); ++i) {
      std::string words;
      std::string name = unwrapped(tensors_[i].first, words);
      // A model beside its wrapped copy: the plain names are those of the model.
      if (words.empty() || name.empty() || !names.insert(name).second) continue;
      removed_[i] = words;
      tensors_[i].first = std::move(name);
    }
  }

  /// Removes leading words until some name fits; where none comes to fit, nothing is removed.
  void remove_model_words(const std::function<bool(const std::string&)>& fits) {
    const auto any_fits = [&](const NamedTensors& tensors) {
      return std::any_of(tensors.begin(), tensors.end(),
                         [&](const auto& item) { return fits(item.first); });
    };
    NamedTensors shorter = tensors_;
    std::vector<std::string> removed = removed_;
    constexpr int kDeepestNesting = 8;
    for (int i = 0; i < kDeepestNesting && !any_fits(shorter); ++i) {
      bool changed = false;
      for (size_t k = 0; k < shorter.size(); ++k) {
        std::string& name = shorter[k].first;
        for (const std::string_view word : {kModelWord, kLeadingWrapper}) {
          if (!name.starts_with(word) || name.size() == word.size()) continue;
          name.erase(0, word.size());
          removed[k] += word;
          changed = true;
          break;
        }
      }
      if (!changed) return;
    }
    if (!any_fits(shorter)) return;
    tensors_ = std::move(shorter);
    removed_ = std::move(removed);
  }

  void report() const {
    std::map<std::string, size_t> counts;
    for (const std::string& words : removed_) {
      if (!words.empty()) ++counts[words];
    }
    for (const auto& [words, count] : counts) {
      log::info(where_.empty() ? "" : where_ + ": ", "'", words, "' is removed from ", count,
                count == 1 ? " name" : " names");
    }
  }

 private:
  NamedTensors& tensors_;
  const std::string& where_;
  std::vector<std::string> removed_;  ///< of each name
};

void revise_names(NamedTensors& tensors, const std::vector<std::string>& written,
                  const LoadOptions& options) {
  for (const auto& [pattern, replacement] : options.revise_keys) {
    const std::regex rule = name_pattern(pattern);
    const std::string to = name_replacement(replacement);
    bool used = false;
    for (size_t i = 0; i < tensors.size(); ++i) {
      std::string& name = tensors[i].first;
      const bool fits = std::regex_search(name, rule);
      // A rule that removes a wrapper has nothing to do any more, but is no mistake.
      used = used || fits || std::regex_search(written[i], rule);
      if (fits) name = std::regex_replace(name, rule, to);
    }
    if (used) continue;
    const std::string problem = text("'", pattern, "' is in no name of the checkpoint");
    if (options.use_all_rules) {
      throw CheckpointError(text(problem, written.empty() ? "" : text(", such as ", written[0])));
    }
    log::warn("key_mapping: ", problem);
  }
  if (options.revise_keys.empty()) return;
  std::unordered_set<std::string> names;
  for (const auto& [name, tensor] : tensors) {
    if (!names.insert(name).second) {
      throw CheckpointError(text("key_mapping makes '", name, "' of more than one name"));
    }
  }
}

/// The weights below a prefix, without it.
NamedTensors tensors_below(NamedTensors tensors, const std::string& prefix) {
  NamedTensors below;
  for (auto& item : tensors) {
    if (item.first.starts_with(prefix)) {
      below.emplace_back(item.first.substr(prefix.size()), item.second);
    }
  }
  if (below.empty() && !tensors.empty()) {
    std::vector<std::string> tops;
    for (const auto& [name, tensor] : tensors) {
      const std::string top = name.substr(0, name.find('.'));
      if (std::find(tops.begin(), tops.end(), top) == tops.end()) tops.push_back(top);
    }
    throw CheckpointError(
        text("no name begins with '", prefix, "'; the names begin with: ", short_list(tops)));
  }
  return below;
}

/// How many parts at the end two dotted names have in common: 2 for "a.conv.weight", "conv.weight".
size_t common_parts(const std::string& a, const std::string& b) {
  size_t i = 0, parts = 0;
  while (i < a.size() && i < b.size() && a[a.size() - 1 - i] == b[b.size() - 1 - i]) {
    ++i;
    const bool a_ends = i == a.size() || a[a.size() - 1 - i] == '.';
    const bool b_ends = i == b.size() || b[b.size() - 1 - i] == '.';
    if (a_ends && b_ends) ++parts;
  }
  return parts;
}

/// What stands before the last `parts` parts of a name, with its dot.
std::string before_parts(const std::string& name, size_t parts) {
  size_t at = name.size();
  for (; parts > 0 && at != std::string::npos && at > 0; --parts) {
    at = name.rfind('.', at - 1);
  }
  return at == std::string::npos || at == 0 ? "" : name.substr(0, at + 1);
}

/// A name with the characters that patterns give a meaning made plain.
std::string quoted_pattern(const std::string& name) {
  return std::regex_replace(name, std::regex(R"([.\\^$|()\[\]{}*+?])"), R"(\$&)");
}

/// A word of a command line for a shell.
std::string shell_word(const std::string& word) {
  const bool plain = !word.empty() && std::all_of(word.begin(), word.end(), [](unsigned char c) {
    return std::isalnum(c) ||
           std::string_view("_-./:=+,@%").find(static_cast<char>(c)) != std::string_view::npos;
  });
  return plain ? word : "'" + std::regex_replace(word, std::regex("'"), R"('\'')") + "'";
}

}  // namespace

std::string nearest_names_text(const NamedTensors& given, const NamedTensors& wanted,
                               const std::string& where, bool in_config) {
  const std::pair<std::string, at::Tensor>*found = nullptr, *expected = nullptr;
  size_t best = 3;  // "weight" alone is in every file
  for (const auto& theirs : given) {
    for (const auto& ours : wanted) {
      const size_t parts = common_parts(theirs.first, ours.first);
      if (parts == 0) continue;
      const size_t score = 2 * parts + (theirs.second.sizes() == ours.second.sizes() ? 1 : 0);
      if (score <= best) continue;
      best = score;
      found = &theirs;
      expected = &ours;
    }
  }
  if (!found) return "";
  std::string out = text(". The nearest names: '", found->first, "' in the file, '",
                         expected->first, "' in the model");
  const size_t parts = common_parts(found->first, expected->first);
  const std::string from = before_parts(found->first, parts);
  const std::string to = before_parts(expected->first, parts);
  std::unordered_map<std::string, at::Tensor> ours(wanted.begin(), wanted.end());
  size_t fitting = 0;
  for (const auto& [name, tensor] : given) {
    if (name.rfind(from, 0) != 0) continue;
    const auto it = ours.find(to + name.substr(from.size()));
    if (it != ours.end() && it->second.sizes() == tensor.sizes()) ++fitting;
  }
  if (fitting == 0 || from == to) return out;
  std::string way;
  if (!in_config) {
    const std::filesystem::path file = where.empty() ? "FILE.pth" : where;
    way = text("tools/convert ", shell_word(file.string()), " ",
               shell_word(file.stem().string() + "-renamed.pth"), " --rename ",
               shell_word("^" + quoted_pattern(from)), " ", shell_word(to));
  } else if (to.empty()) {
    way = text("prefix: '", from, "'");
  } else {
    way = text("key_mapping: [['^", quoted_pattern(from), "', '", to, "']]");
  }
  return text(out, in_config ? ". With " : ". After ", way, " ", fitting,
              fitting == 1 ? " fits" : " fit");
}

std::string key_mapping_problem(const KeyMapping& mapping) {
  for (const auto& [pattern, replacement] : mapping) {
    try {
      const std::regex rule(pattern);
      const std::string to = name_replacement(replacement);
      static const std::regex group(R"(\$(\d{1,2}))");
      for (std::sregex_iterator it(to.begin(), to.end(), group), end; it != end; ++it) {
        const unsigned long number = std::stoul((*it)[1].str());
        if (number > rule.mark_count()) {
          return text("'", replacement, "' names group ", number, ", '", pattern, "' has ",
                      rule.mark_count());
        }
      }
    } catch (const std::regex_error&) {
      const bool python =
          pattern.find("(?P") != std::string::npos || pattern.find("(?<") != std::string::npos;
      return text("'", pattern, "' is no regular expression",
                  python ? "; groups with names and conditions on what stands before are not "
                           "supported"
                         : "");
    }
  }
  return "";
}

void check_name_length(const std::string& name) {
  // No module is nested so deeply, and std::regex takes the more of the stack the longer a text is.
  constexpr size_t kLongestName = 4096, kShown = 60;
  if (name.size() <= kLongestName) return;
  throw CheckpointError(
      text("the name of a weight has ", name.size(), " bytes: '", name.substr(0, kShown), "...'"));
}

std::string short_list(const std::vector<std::string>& names) {
  if (names.size() <= kListedNames) return join(names, ", ");
  const std::vector<std::string> first(names.begin(), names.begin() + kListedNames);
  return text(join(first, ", "), ", ... (", names.size(), " in all)");
}

std::regex name_pattern(const std::string& pattern) {
  try {
    return std::regex(pattern);
  } catch (const std::regex_error& error) {
    throw UsageError(text("'", pattern, "' is no regular expression: ", error.what()));
  }
}

NamedTensors tensors_by_name(const Value& state, const LoadOptions& options,
                             const std::function<bool(const std::string&)>& fits,
                             const std::string& where) {
  NamedTensors out;
  std::vector<std::string> written;
  for (const auto& [key, value] : state.as_dict()) {
    if (!key.is_string() || !value.is_tensor() || !value.as_tensor().defined()) continue;
    check_name_length(key.as_string());
    written.push_back(key.as_string());
    out.emplace_back(key.as_string(), value.as_tensor());
  }
  WrapperRemoval wrappers(out, where);
  wrappers.remove_wrappers();
  revise_names(out, written, options);
  std::string prefix = options.prefix;
  if (!prefix.empty()) {
    if (prefix.back() != '.') prefix += '.';
    std::string words;
    prefix = unwrapped(prefix, words);
  }
  if (!prefix.empty()) {
    wrappers.remove_model_words([&](const std::string& name) { return name.starts_with(prefix); });
  } else if (fits) {
    wrappers.remove_model_words(fits);
  }
  wrappers.report();
  return prefix.empty() ? out : tensors_below(std::move(out), prefix);
}

}  // namespace seg
