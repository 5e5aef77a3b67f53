#include "segcore/io/weight_map.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>
#include <regex>
#include <unordered_map>
#include <unordered_set>

#include "registry/error.hpp"
#include "registry/yaml.hpp"

namespace seg {

Schema<WeightStep> WeightStep::schema() {
  using P = WeightStep;
  return Schema<P>("A change of a tensor's layout.")
      .optional("reshape", &P::reshape, "the new sizes; 0 keeps the one there, -1 is what is left")
      .optional("permute", &P::permute, "the dimensions in their new order")
      .optional("take", &P::take, "slices along dim in their new order")
      .optional("dim", &P::dim, "the dimension that `take` is about", at_least(0))
      .validate([](const P& p, Problems& problems) {
        if (p.reshape.has_value() + p.permute.has_value() + p.take.has_value() != 1) {
          problems.error("", "a step is one of reshape, permute and take");
        }
      });
}

Schema<WeightRule> WeightRule::schema() {
  using P = WeightRule;
  return Schema<P>("What happens to the tensors whose name holds a regular expression.")
      .required("match", &P::match, "regular expression (ECMAScript), searched in each name")
      .optional("name", &P::name, "what replaces the part that fits; $1 is the first group")
      .optional("drop", &P::drop, "leave the tensors out")
      .optional("join", &P::join,
                "whole names of tensors, of which one is made along the first dimension; it is "
                "called `name`, a whole name too")
      .optional("split", &P::split,
                "whole names of the tensors into which it is cut along the first dimension")
      .optional("parts", &P::parts, "the shares of a split; equal where not given", at_least(1))
      .optional("steps", &P::steps, "changes of the layout, in order")
      .validate([](const P& p, Problems& problems) {
        try {
          const std::regex tried(p.match);
        } catch (const std::regex_error&) {
          problems.error("match", text("'", p.match, "' is no regular expression"));
        }
        const int ways = p.drop + p.join.has_value() + p.split.has_value();
        if (ways > 1) problems.error("", "a rule has one of drop, join and split");
        if (ways == 0 && !p.name && !p.steps) {
          problems.error("", "a rule needs one of name, drop, join, split and steps");
        }
        if (p.join && !p.name)
          problems.error("join", "needs `name`: what the joined one is called");
        if ((p.drop || p.split) && p.name) problems.error("name", "has no effect here");
        if (p.parts && (!p.split || p.parts->size() != p.split->size())) {
          problems.error("parts", "must have as many numbers as `split` has names");
        }
      });
}

namespace {

struct MapFile {
  std::string summary;
  std::vector<Config> rules, then;
  std::vector<std::string> keeps, absent;
  static Schema<MapFile> schema() {
    return Schema<MapFile>("Rules that turn the weights of another repository into ours.")
        .optional("summary", &MapFile::summary, "from which repository to which class")
        .required("rules", &MapFile::rules, "applied in order")
        .optional("then", &MapFile::then, "applied after `rules`, where these come from a _base_")
        .optional("keeps", &MapFile::keeps,
                  "names that are the model's already: regular expressions")
        .optional("absent", &MapFile::absent,
                  "weights of the model that the original has not: regular expressions");
  }
};

struct MappedTensor {
  std::string name;
  at::Tensor tensor;
  bool touched = false;  ///< by a rule
};

/// A replacement with its groups and sums ("layers.{2-1}") worked out.
std::string expanded(const std::smatch& match, const std::string& replacement) {
  static const std::regex sum(R"(\{(\d{1,9})([+-]\d{1,9})\})");
  std::string out = match.format(replacement);
  for (std::smatch found; std::regex_search(out, found, sum);) {
    const int64_t value = std::stoll(found[1]) + std::stoll(found[2]);
    out = text(found.prefix().str(), value, found.suffix().str());
  }
  return out;
}

std::string weight_map_shape(const at::Tensor& t) { return text("[", join(t.sizes(), ", "), "]"); }

/// One rule at work on all tensors.
class RuleRun {
 public:
  RuleRun(const WeightRule& rule, std::vector<MappedTensor>& tensors)
      : rule_(rule), pattern_(rule.match), tensors_(tensors) {}

  /// \return how many names the rule fitted.
  size_t run() {
    if (rule_.join) {
      for (size_t i = 0; i < tensors_.size(); ++i) places_.emplace(tensors_[i].name, i);
    }
    std::vector<MappedTensor> out;
    out.reserve(tensors_.size());
    size_t fitted = 0;
    for (const MappedTensor& item : tensors_) {
      std::smatch match;
      if (!std::regex_search(item.name, match, pattern_)) {
        out.push_back(item);
        continue;
      }
      ++fitted;
      if (rule_.drop) continue;
      if (rule_.join) {
        out.push_back({expanded(match, *rule_.name), stepped(item.name, joined(item.name, match)),
                       /*touched=*/true});
      } else if (rule_.split) {
        add_parts(item, match, out);
      } else {
        std::string name = item.name;
        if (rule_.name) {
          name = text(match.prefix().str(), expanded(match, *rule_.name), match.suffix().str());
        }
        out.push_back({std::move(name), stepped(item.name, item.tensor), /*touched=*/true});
      }
    }
    std::erase_if(out, [&](const MappedTensor& item) { return used_.contains(item.name); });
    std::unordered_set<std::string_view> names;
    for (const MappedTensor& item : out) {
      if (!names.insert(item.name).second) fail("two tensors become '", item.name, "'");
    }
    tensors_ = std::move(out);
    return fitted;
  }

 private:
  template <class... T>
  [[noreturn]] void fail(const T&... parts) const {
    throw CheckpointError(text(rule_.origin.text(), ": ", parts...));
  }

  at::Tensor joined(const std::string& name, const std::smatch& match) {
    std::vector<at::Tensor> parts;
    for (const std::string& part : *rule_.join) {
      const std::string wanted = expanded(match, part);
      const auto found = places_.find(wanted);
      if (found == places_.end())
        fail("'", name, "' is to be joined with '", wanted, "', which is not there");
      const at::Tensor& tensor = tensors_[found->second].tensor;
      const auto rest = [](const at::Tensor& t) { return t.sizes().slice(1); };
      if (tensor.dim() == 0 || (!parts.empty() && rest(tensor) != rest(parts[0]))) {
        fail("'", name, "' cannot be joined with '", wanted, "' ", weight_map_shape(tensor));
      }
      parts.push_back(tensor);
      if (wanted != name) used_.insert(wanted);
    }
    return at::cat(parts);
  }

  void add_parts(const MappedTensor& item, const std::smatch& match,
                 std::vector<MappedTensor>& out) {
    const std::vector<int64_t> shares =
        rule_.parts.value_or(std::vector<int64_t>(rule_.split->size(), 1));
    const int64_t total = std::accumulate(shares.begin(), shares.end(), int64_t{0});
    const at::Tensor& tensor = item.tensor;
    if (tensor.dim() == 0 || total == 0 || tensor.size(0) % total != 0) {
      fail("'", item.name, "' ", weight_map_shape(tensor), " cannot be cut into ", total,
           " equal parts");
    }
    int64_t begin = 0;
    for (size_t i = 0; i < shares.size(); ++i) {
      const int64_t size = tensor.size(0) / total * shares[i];
      out.push_back({expanded(match, (*rule_.split)[i]),
                     stepped(item.name, tensor.narrow(0, begin, size)), /*touched=*/true});
      begin += size;
    }
  }

  at::Tensor stepped(const std::string& name, at::Tensor tensor) const {
    if (!rule_.steps) return tensor;
    for (const WeightStep& step : *rule_.steps) {
      if (step.reshape) {
        tensor = reshaped(name, tensor, *step.reshape);
      } else if (step.permute) {
        std::vector<int64_t> order = *step.permute;
        std::sort(order.begin(), order.end());
        bool whole = static_cast<int64_t>(order.size()) == tensor.dim();
        for (size_t i = 0; whole && i < order.size(); ++i) {
          whole = order[i] == static_cast<int64_t>(i);
        }
        if (!whole) {
          fail("'", name, "' ", weight_map_shape(tensor), " has no dimensions [",
               join(*step.permute, ", "), "] to put in order");
        }
        tensor = tensor.permute(*step.permute);
      } else {
        if (step.dim >= tensor.dim() ||
            std::any_of(step.take->begin(), step.take->end(),
                        [&](int64_t i) { return i < 0 || i >= tensor.size(step.dim); })) {
          fail("'", name, "' ", weight_map_shape(tensor), " has no slices [",
               join(*step.take, ", "), "] along dimension ", step.dim);
        }
        tensor = tensor.index_select(step.dim, at::tensor(*step.take, at::kLong));
      }
    }
    return tensor.contiguous();
  }

  at::Tensor reshaped(const std::string& name, const at::Tensor& tensor,
                      const std::vector<int64_t>& wanted) const {
    std::vector<int64_t> sizes = wanted;
    int64_t known = 1, free = -1;
    bool good = true;
    for (size_t i = 0; i < sizes.size(); ++i) {
      if (sizes[i] == 0 && static_cast<int64_t>(i) < tensor.dim()) {
        sizes[i] = tensor.size(static_cast<int64_t>(i));
      }
      if (sizes[i] == -1) {
        good = good && free < 0;
        free = static_cast<int64_t>(i);
      } else {
        good = good && sizes[i] > 0 && !__builtin_mul_overflow(known, sizes[i], &known);
      }
    }
    good =
        good && known > 0 && tensor.numel() % known == 0 && (free >= 0 || tensor.numel() == known);
    if (!good) {
      fail("'", name, "' ", weight_map_shape(tensor), " cannot be reshaped to [",
           join(wanted, ", "), "]");
    }
    if (free >= 0) sizes[static_cast<size_t>(free)] = tensor.numel() / known;
    return tensor.reshape(sizes);
  }

  const WeightRule& rule_;
  const std::regex pattern_;
  std::vector<MappedTensor>& tensors_;
  std::unordered_map<std::string, size_t> places_;
  std::unordered_set<std::string> used_;  ///< joined into others
};

}  // namespace

WeightMap::WeightMap(const std::string& path) : path_(path) {
  Diagnostics problems;
  const Config tree = load_config(path, {}, problems);
  const MapFile file = MapFile::schema().parse(tree, "", "", problems);
  const auto add = [&](const std::vector<Config>& rules, const char* list) {
    for (size_t i = 0; i < rules.size(); ++i) {
      auto read = Convert<WeightRule>::from(rules[i], text(list, '.', i), problems);
      if (!read) continue;
      rules_.push_back(std::move(*read));
      rules_.back().origin = rules[i].origin;
    }
  };
  add(file.rules, "rules");
  add(file.then, "then");
  keeps_ = file.keeps;
  absent_ = file.absent;
  for (const std::string& pattern : keeps_) {
    try {
      const std::regex tried(pattern);
    } catch (const std::regex_error&) {
      problems.error(tree.find("keeps")->value.origin, "keeps",
                     text("'", pattern, "' is no regular expression"));
    }
  }
  if (problems.has_errors()) throw ConfigError(std::move(problems));
}

bool WeightMap::fits(const std::string& name) const {
  return std::any_of(rules_.begin(), rules_.end(), [&](const WeightRule& rule) {
    return std::regex_search(name, std::regex(rule.match));
  });
}

Value WeightMap::apply(const Value& state) const {
  std::vector<MappedTensor> tensors;
  for (const auto& [name, value] : state.as_dict()) {
    if (name.is_string() && value.is_tensor() && value.as_tensor().defined()) {
      tensors.push_back({name.as_string(), value.as_tensor()});
    }
  }
  const size_t all = tensors.size();
  const std::string first = tensors.empty() ? "" : tensors[0].name;
  size_t fitted = 0;
  for (const WeightRule& rule : rules_) fitted += RuleRun(rule, tensors).run();
  if (fitted == 0) {
    throw CheckpointError(text("no rule of ", path_, " fits any name",
                               first.empty() ? "" : text("; the first is '", first, "'")));
  }
  if (tensors.empty()) throw CheckpointError(text("the rules of ", path_, " drop every weight"));
  std::vector<std::string> untouched;
  for (const MappedTensor& item : tensors) {
    const bool ours = std::any_of(keeps_.begin(), keeps_.end(), [&](const std::string& pattern) {
      return std::regex_search(item.name, std::regex(pattern));
    });
    if (!item.touched && !ours) untouched.push_back(item.name);
  }
  // Rules that change layouts alone are for names that are the model's already.
  const bool renames = std::any_of(rules_.begin(), rules_.end(), [](const WeightRule& rule) {
    return rule.name || rule.drop || rule.join || rule.split;
  });
  if (renames && 2 * untouched.size() > all) {
    throw CheckpointError(text("the rules of ", path_, " leave ", untouched.size(), " of ", all,
                               " names as they are, as '", untouched[0],
                               "': the weights are of another model or repository than they are "
                               "for"));
  }
  ValueDict out;
  for (auto& item : tensors) out.emplace_back(std::move(item.name), std::move(item.tensor));
  return Value::dict(std::move(out));
}

}  // namespace seg
