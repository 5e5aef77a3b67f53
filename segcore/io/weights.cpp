#include "segcore/io/weights.hpp"

#include <torch/nn/module.h>
#include <torch/utils.h>

#include <algorithm>
#include <regex>
#include <unordered_map>
#include <unordered_set>

#include "registry/error.hpp"
#include "registry/log.hpp"
#include "segcore/io/named_weights.hpp"

namespace seg {
namespace {

/// Calls `visit(name, tensor)` for all weights in the order of Python's state_dict.
template <class Visit>
void visit_weights(const torch::nn::Module& module, const std::string& prefix, const Visit& visit) {
  for (const auto& item : module.named_parameters(/*recurse=*/false)) {
    if (item.value().defined()) visit(prefix + item.key(), item.value());
  }
  for (const auto& item : module.named_buffers(/*recurse=*/false)) {
    if (item.value().defined()) visit(prefix + item.key(), item.value());
  }
  for (const auto& child : module.named_children()) {
    if (child.value()) visit_weights(*child.value(), prefix + child.key() + ".", visit);
  }
}

bool is_state_dict(const Value& v) {
  if (!v.is_dict() || v.as_dict().empty()) return false;
  size_t tensors = 0;
  for (const auto& [key, value] : v.as_dict()) {
    if (!key.is_string()) return false;
    if (value.is_tensor()) ++tensors;
  }
  // EMA and fp16 dumps keep a few numbers between the tensors.
  return tensors * 2 > v.as_dict().size();
}

/// A pickled torch.nn.Module is an inert object whose state has _parameters, _buffers, _modules.
void collect_pickled_module(const Value& v, const std::string& prefix, int depth, Value& out) {
  if (!v.is_opaque() || !v.as_opaque().state || depth > 100) return;
  const Value& state = *v.as_opaque().state;
  for (const char* kind : {"_parameters", "_buffers"}) {
    const Value* items = state.find(kind);
    if (!items || !items->is_dict()) continue;
    for (const auto& [key, value] : items->as_dict()) {
      if (key.is_string() && value.is_tensor()) out.set(prefix + key.as_string(), value);
    }
  }
  const Value* children = state.find("_modules");
  if (!children || !children->is_dict()) return;
  for (const auto& [key, value] : children->as_dict()) {
    if (key.is_string()) {
      collect_pickled_module(value, prefix + key.as_string() + ".", depth + 1, out);
    }
  }
}

std::string weights_shape_text(const std::vector<int64_t>& shape) {
  return "[" + join(shape, ", ") + "]";
}

/// Names listed in messages before the rest is only counted.
constexpr size_t kListedNames = 8;

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

using NamedTensors = ChangesBeforeLoad::NamedTensors;

/// The names of a state dict as the model has them, with their tensors.
NamedTensors named_tensors(const Value& state, const LoadOptions& options) {
  NamedTensors out;
  for (const auto& [key, value] : state.as_dict()) {
    if (!key.is_string() || !value.is_tensor() || !value.as_tensor().defined()) continue;
    std::string name = key.as_string();
    check_name_length(name);
    // DataParallel's wrapper, possibly twice (EMA of a wrapped model).
    while (name.rfind("module.", 0) == 0) name.erase(0, 7);
    out.emplace_back(std::move(name), value.as_tensor());
  }
  for (const auto& [pattern, replacement] : options.revise_keys) {
    const std::regex rule = name_pattern(pattern);
    const std::string to = name_replacement(replacement);
    bool used = false;
    for (auto& item : out) {
      if (!std::regex_search(item.first, rule)) continue;
      used = true;
      item.first = std::regex_replace(item.first, rule, to);
    }
    if (!used) log::warn("key_mapping: '", pattern, "' is in no name of the checkpoint");
  }
  if (!options.revise_keys.empty()) {
    std::unordered_set<std::string> names;
    for (const auto& [name, tensor] : out) {
      if (!names.insert(name).second) {
        throw CheckpointError(text("key_mapping makes '", name, "' of more than one name"));
      }
    }
  }
  if (options.prefix.empty()) return out;
  const std::string prefix = options.prefix.back() == '.' ? options.prefix : options.prefix + ".";
  NamedTensors under;
  for (auto& item : out) {
    if (item.first.rfind(prefix, 0) == 0) {
      under.emplace_back(item.first.substr(prefix.size()), item.second);
    }
  }
  if (under.empty() && !out.empty()) {
    std::vector<std::string> tops;
    for (const auto& [name, tensor] : out) {
      const std::string top = name.substr(0, name.find('.'));
      if (std::find(tops.begin(), tops.end(), top) == tops.end()) tops.push_back(top);
    }
    throw CheckpointError(
        text("no name begins with '", prefix, "'; the names begin with: ", short_list(tops)));
  }
  return under;
}

/// Lets the modules that want to change names, outer ones first.
void call_before_load(torch::nn::Module& module, const std::string& prefix, NamedTensors& given) {
  if (auto* changes = dynamic_cast<ChangesBeforeLoad*>(&module)) {
    NamedTensors below;
    std::vector<size_t> places;
    for (size_t i = 0; i < given.size(); ++i) {
      if (!given[i].first.starts_with(prefix)) continue;
      below.emplace_back(given[i].first.substr(prefix.size()), given[i].second);
      places.push_back(i);
    }
    changes->before_load(below);
    SEG_CHECK(below.size() == places.size(), "before_load may only change names");
    for (size_t i = 0; i < places.size(); ++i) given[places[i]].first = prefix + below[i].first;
  }
  for (const auto& child : module.named_children()) {
    if (child.value()) call_before_load(*child.value(), prefix + child.key() + ".", given);
  }
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

/// Two names that are most alike, and the option that makes them one, for a file that does not fit
/// at all; "" where no two are alike.
std::string nearest_names_text(const NamedTensors& given, const NamedTensors& wanted) {
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
  const std::string option =
      to.empty() ? text("prefix: '", from, "'")
                 : text("key_mapping: [['^", quoted_pattern(from), "', '", to, "']]");
  return text(out, ". With ", option, " ", fitting, fitting == 1 ? " fits" : " fit");
}

}  // namespace

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

Value state_dict(const torch::nn::Module& module) {
  ValueDict items;
  visit_weights(module, "", [&](const std::string& name, const torch::Tensor& tensor) {
    items.emplace_back(name, tensor.detach());
  });
  return Value::dict(std::move(items));
}

std::string LoadReport::text() const {
  std::string out;
  for (size_t i = 0; i < mismatched.size(); ++i) {
    if (i == 2 * kListedNames) {
      out += seg::text("... (", mismatched.size(), " of another size in all)\n");
      break;
    }
    const ShapeMismatch& m = mismatched[i];
    out += seg::text("size mismatch for ", m.name, ": the checkpoint has ",
                     weights_shape_text(m.found), ", the model ", weights_shape_text(m.expected),
                     "\n");
  }
  if (!unexpected.empty()) {
    out += "unexpected key in source state_dict: " + short_list(unexpected) + "\n";
  }
  if (!missing.empty()) out += "missing keys in source state_dict: " + short_list(missing) + "\n";
  if (!out.empty()) out.pop_back();
  return out;
}

void check_name_length(const std::string& name) {
  // No module is nested so deeply, and std::regex takes the more of the stack the longer a text is.
  constexpr size_t kLongestName = 4096, kShown = 60;
  if (name.size() <= kLongestName) return;
  throw CheckpointError(
      text("the name of a weight has ", name.size(), " bytes: '", name.substr(0, kShown), "...'"));
}

Value find_state_dict(const Value& checkpoint, const std::string& key) {
  if (!key.empty()) {
    const Value* found = checkpoint.find(key);
    if (!found || !found->is_dict()) {
      throw CheckpointError(text("there is no state dict '", key, "' in it"));
    }
    return *found;
  }
  // First what the common trainers write, then what single repositories do.
  for (const char* name : {"state_dict", "model", "module", "model_state_dict", "model_state",
                           "net", "network", "ema_state_dict", "state_dict_ema", "model_ema", "ema",
                           "teacher", "student", "encoder", "target_encoder"}) {
    const Value* found = checkpoint.find(name);
    if (!found) continue;
    if (is_state_dict(*found)) return *found;
    if (found->is_dict()) {  // {'model': {'state_dict': ...}}
      const Value* inner = found->find("state_dict");
      if (inner && is_state_dict(*inner)) return *inner;
    }
    if (found->is_opaque()) {
      Value out = Value::dict();
      collect_pickled_module(*found, "", 0, out);
      if (is_state_dict(out)) return out;
    }
  }
  if (is_state_dict(checkpoint)) return checkpoint;
  if (checkpoint.is_opaque()) {
    Value out = Value::dict();
    collect_pickled_module(checkpoint, "", 0, out);
    if (is_state_dict(out)) return out;
  }
  if (!checkpoint.is_dict()) {
    throw CheckpointError(text("there are no weights in it: it holds ", checkpoint.kind_text()));
  }
  std::vector<std::string> names;
  for (const auto& [name, value] : checkpoint.as_dict()) {
    if (names.size() == 10) {
      names.push_back("...");
      break;
    }
    names.push_back(name.is_string() ? name.as_string() : name.kind_text());
  }
  throw CheckpointError(names.empty()
                            ? std::string("there are no weights in it: it is an empty dict")
                            : text("there are no weights in it: it holds ", join(names, ", ")));
}

Value named_weights(const Value& checkpoint, const LoadOptions& options, const std::string& where) {
  try {
    ValueDict items;
    for (auto& [name, tensor] : named_tensors(find_state_dict(checkpoint), options)) {
      items.emplace_back(name, std::move(tensor));
    }
    return Value::dict(std::move(items));
  } catch (const CheckpointError& error) {
    if (where.empty()) throw;
    throw CheckpointError(text(where, ": ", error.what()));
  }
}

LoadReport load_state_dict(torch::nn::Module& module, const Value& state,
                           const LoadOptions& options, const std::string& where) {
  const std::string place = where.empty() ? "" : where + ": ";
  NamedTensors given;
  try {
    given = named_tensors(find_state_dict(state), options);
  } catch (const CheckpointError& error) {
    throw CheckpointError(place + error.what());
  }
  call_before_load(module, "", given);
  std::unordered_map<std::string, at::Tensor> by_name(given.begin(), given.end());
  std::vector<std::regex> ignored;
  for (const std::string& pattern : options.ignore) ignored.push_back(name_pattern(pattern));
  auto is_ignored = [&](const std::string& name) {
    return std::any_of(ignored.begin(), ignored.end(),
                       [&](const std::regex& r) { return std::regex_search(name, r); });
  };
  LoadReport report;
  NamedTensors wanted;
  std::unordered_set<std::string> own_names;
  std::vector<std::pair<torch::Tensor, at::Tensor>> copies;
  visit_weights(module, "", [&](const std::string& name, const torch::Tensor& target) {
    wanted.emplace_back(name, target);
    own_names.insert(name);
    const auto found = by_name.find(name);
    if (found == by_name.end()) {
      // Checkpoints of before 2018 have no counters of batches; Python lets them pass too.
      const bool counter =
          name.size() >= 19 && name.compare(name.size() - 19, 19, "num_batches_tracked") == 0;
      if (!counter && !is_ignored(name)) report.missing.push_back(name);
      return;
    }
    const at::Tensor& source = found->second;
    if (source.is_complex() && !target.is_complex()) {
      throw CheckpointError(
          text(place, "'", name, "' is of complex numbers, the model's are real"));
    }
    if (source.sizes() != target.sizes()) {
      // Single numbers are saved as [] or [1].
      const bool same_number =
          source.numel() == 1 && target.numel() == 1 && source.dim() <= 1 && target.dim() <= 1;
      if (!same_number) {
        report.mismatched.push_back({name, target.sizes().vec(), source.sizes().vec()});
        return;
      }
    }
    report.matched.push_back(name);
    copies.emplace_back(target, source);
  });
  for (const auto& [name, tensor] : given) {
    if (!own_names.count(name) && !is_ignored(name)) report.unexpected.push_back(name);
  }
  if (options.strict && !report.exact()) {
    throw WeightsMismatch(text(place, "the weights do not fit the model exactly\n", report.text()));
  }
  if (report.matched.empty()) {
    const std::string none = text(place, "none of the ", given.size(), " weights fits the model");
    if (!report.mismatched.empty()) throw WeightsMismatch(none + "\n" + report.text());
    std::string names = nearest_names_text(given, wanted);
    if (names.empty() && !given.empty() && !wanted.empty()) {
      names = text("; it has names like '", given[0].first, "', the model names like '",
                   *std::min_element(own_names.begin(), own_names.end()), "'");
    }
    throw WeightsMismatch(none + names);
  }
  torch::NoGradGuard no_grad;
  for (auto& [target, source] : copies) {
    target.copy_(source.view(target.sizes()), /*non_blocking=*/false);
  }
  return report;
}

LoadReport load_whole_model(torch::nn::Module& model, const Value& checkpoint,
                            const std::string& where) {
  LoadReport report =
      load_state_dict(model, checkpoint, {.ignore = {"^data_preprocessor\\."}}, where);
  const auto only_trains = [](const std::string& name) {
    return name.rfind("auxiliary_head.", 0) == 0;
  };
  const bool usable = report.mismatched.empty() &&
                      std::all_of(report.missing.begin(), report.missing.end(), only_trains);
  if (!usable) {
    throw WeightsMismatch(text(where, ": the weights do not fit the model\n", report.text()));
  }
  return report;
}

}  // namespace seg
