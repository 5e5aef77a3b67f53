#include "registry/listing_search.hpp"

#include <algorithm>
#include <cctype>
#include <map>
#include <optional>
#include <sstream>

#include "registry/listing.hpp"

namespace seg {
namespace {

/// More lines than this are read by nobody.
constexpr size_t kMostHits = 40;

bool is_kind(char c, int (*kind)(int)) { return kind(static_cast<unsigned char>(c)) != 0; }

std::string in_lower_case(std::string s) {
  for (char& c : s) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return s;
}

/// Whether a word begins here: "Hook" in EMAHook, "stages" in frozen_stages.
bool begins_word(const std::string& text, size_t at) {
  if (at == 0 || !is_kind(text[at - 1], std::isalnum)) return true;
  if (!is_kind(text[at], std::isupper)) return false;
  return is_kind(text[at - 1], std::islower) ||
         (at + 1 < text.size() && is_kind(text[at + 1], std::islower));
}

bool has_word(const std::string& text, const std::string& word) {
  const std::string lower = in_lower_case(text);
  for (size_t at = lower.find(word); at != std::string::npos; at = lower.find(word, at + 1)) {
    if (begins_word(text, at)) return true;
  }
  return false;
}

/// The word and its other spellings: meanings are written in British English, many names are not.
std::vector<std::string> spellings(const std::string& word) {
  std::vector<std::string> out = {word};
  for (const auto& [from, to] : {std::pair("color", "colour"), std::pair("colour", "color"),
                                 std::pair("gray", "grey"), std::pair("grey", "gray")}) {
    const size_t at = word.find(from);
    if (at == std::string::npos) continue;
    out.push_back(std::string(word).replace(at, std::string_view(from).size(), to));
  }
  return out;
}

/// How well a name or its meaning has a word, 0 being the best; nothing where neither does.
std::optional<int> rank_as_spelt(const std::string& name, const std::string& meaning,
                                 const std::string& word) {
  const std::string lower = in_lower_case(name);
  if (lower == word) return 0;
  if (lower.starts_with(word)) return 1;
  if (has_word(name, word)) return 2;
  if (lower.find(word) != std::string::npos) return 3;
  if (has_word(meaning, word)) return 4;
  return std::nullopt;
}

std::optional<int> word_rank(const std::string& name, const std::string& meaning,
                             const std::string& word) {
  std::optional<int> best;
  for (const auto& spelling : spellings(word)) {
    const auto rank = rank_as_spelt(name, meaning, spelling);
    if (rank && (!best || *rank < *best)) best = rank;
  }
  return best;
}

/// The worst rank of the words, since all must be there.
std::optional<int> rank_of(const std::string& name, const std::string& meaning,
                           const std::vector<std::string>& words) {
  int worst = 0;
  for (const auto& word : words) {
    const auto rank = word_rank(name, meaning, word);
    if (!rank) return std::nullopt;
    worst = std::max(worst, *rank);
  }
  return worst;
}

/// ": whole, slide" for an option that takes these words alone.
std::string choices_text(const TypeDoc& type) {
  if (!type.choices.empty()) return ": " + join(type.choices, ", ");
  for (const TypeDoc& item : type.items) {
    if (std::string inner = choices_text(item); !inner.empty()) return inner;
  }
  return {};
}

struct SearchHit {
  int rank = 0;
  std::string name, meaning;
  std::vector<std::string> owners;  ///< types that have the option
};

class ListingSearch {
 public:
  explicit ListingSearch(const std::string& query) {
    std::istringstream in(in_lower_case(query));
    for (std::string word; in >> word;) words_.push_back(word);
  }

  /// \param option_of  the type whose option it is; "" for types and keys.
  void look_at(const std::string& name, const std::string& meaning, const std::string& place,
               const std::string& option_of = "") {
    const auto rank = rank_of(name, meaning, words_);
    if (words_.empty() || !rank) return;
    // Types come before options that fit as well.
    const int order = 2 * *rank + (option_of.empty() ? 0 : 1);
    if (!option_of.empty()) {
      // The same option of several types is one hit.
      const auto [known, fresh] = options_.emplace(name + "\n" + meaning, hits_.size());
      if (!fresh) {
        hits_[known->second].owners.push_back(option_of);
        return;
      }
      hits_.push_back({order, name, meaning, {option_of}});
      return;
    }
    hits_.push_back({order, text(name, " (", place, ")"), meaning, {}});
  }

  /// \param of  the type that has the options, or the path to them: "train_dataloader".
  void look_at_options(const std::vector<OptionDoc>& options, const std::string& of) {
    for (const OptionDoc& option : options) {
      look_at(option.name, option.meaning + choices_text(option.type), "", of);
      look_inside(option, of + ".");
    }
  }
  void look_inside(const OptionDoc& option, const std::string& before) {
    if (const auto* inner = options_inside(option.type)) {
      look_at_options(*inner, before + option.name);
    }
  }

  std::string result() {
    std::stable_sort(hits_.begin(), hits_.end(),
                     [](const SearchHit& a, const SearchHit& b) { return a.rank < b.rank; });
    std::string out;
    for (size_t i = 0; i < hits_.size() && i < kMostHits; ++i) {
      const SearchHit& hit = hits_[i];
      out += hit.name + owners_text(hit.owners) + ": " + hit.meaning + "\n";
    }
    if (hits_.size() > kMostHits) out += text("... and ", hits_.size() - kMostHits, " more\n");
    return out;
  }

 private:
  static std::string owners_text(const std::vector<std::string>& owners) {
    constexpr size_t kMostOwners = 4;
    if (owners.empty()) return {};
    const std::vector<std::string> named(
        owners.begin(),
        owners.begin() + static_cast<ptrdiff_t>(std::min(owners.size(), kMostOwners)));
    return text(
        " (option of ", join(named, ", "),
        owners.size() > kMostOwners ? text(" and ", owners.size() - kMostOwners, " more") : "",
        ")");
  }

  std::vector<std::string> words_;
  std::vector<SearchHit> hits_;
  std::map<std::string, size_t> options_;  ///< name and meaning -> hit
};

}  // namespace

std::string search_listed(const std::string& words, const std::vector<OptionDoc>& keys) {
  ListingSearch search(words);
  for (const OptionDoc& key : keys) search.look_at(key.name, key.meaning, "top-level key");
  for (const AnyRegistry* registry : AnyRegistry::all()) {
    for (const auto& type : registry->types()) {
      search.look_at(type.name, type.summary, std::string(registry->category()));
    }
  }
  std::map<std::string, int> categories;  // that have a type of this name
  for (const AnyRegistry* registry : AnyRegistry::all()) {
    for (const auto& type : registry->types()) ++categories[type.name];
  }
  for (const AnyRegistry* registry : AnyRegistry::all()) {
    for (const auto& type : registry->types()) {
      const std::string owner =
          categories.at(type.name) > 1 ? text(registry->category(), " ", type.name) : type.name;
      search.look_at_options(type.options, owner);
    }
  }
  for (const OptionDoc& key : keys) search.look_inside(key, "");
  return search.result();
}

}  // namespace seg
