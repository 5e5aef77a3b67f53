#include "segcore/io/weights.hpp"

#include <torch/nn/module.h>
#include <torch/utils.h>

#include <algorithm>
#include <regex>
#include <unordered_map>
#include <unordered_set>

#include "registry/error.hpp"

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

std::regex name_pattern(const std::string& pattern) {
  try {
    return std::regex(pattern);
  } catch (const std::regex_error& error) {
    throw UsageError(text("'", pattern, "' is no regular expression: ", error.what()));
  }
}

/// The names of a state dict as the model has them, with their tensors.
std::vector<std::pair<std::string, at::Tensor>> named_tensors(const Value& state,
                                                              const LoadOptions& options) {
  std::vector<std::pair<std::string, at::Tensor>> out;
  for (const auto& [key, value] : state.as_dict()) {
    if (key.is_string() && value.is_tensor() && value.as_tensor().defined()) {
      out.emplace_back(key.as_string(), value.as_tensor());
    }
  }
  // DataParallel's wrapper, possibly twice (EMA of a wrapped model).
  const std::string wrapper = "module.";
  while (!out.empty() && std::all_of(out.begin(), out.end(), [&](const auto& item) {
    return item.first.rfind(wrapper, 0) == 0;
  })) {
    for (auto& item : out) item.first.erase(0, wrapper.size());
  }
  std::vector<std::pair<std::regex, std::string>> rules;
  for (const auto& [pattern, replacement] : options.revise_keys) {
    rules.emplace_back(name_pattern(pattern), replacement);
  }
  for (auto& item : out) {
    for (const auto& [pattern, replacement] : rules) {
      item.first = std::regex_replace(item.first, pattern, replacement);
    }
  }
  if (options.prefix.empty()) return out;
  const std::string prefix = options.prefix.back() == '.' ? options.prefix : options.prefix + ".";
  std::vector<std::pair<std::string, at::Tensor>> under;
  for (auto& item : out) {
    if (item.first.rfind(prefix, 0) == 0) {
      under.emplace_back(item.first.substr(prefix.size()), item.second);
    }
  }
  if (under.empty() && !out.empty()) {
    throw CheckpointError(
        text("no name begins with '", prefix, "'; the first is '", out[0].first, "'"));
  }
  return under;
}

}  // namespace

Value state_dict(const torch::nn::Module& module) {
  ValueDict items;
  visit_weights(module, "", [&](const std::string& name, const torch::Tensor& tensor) {
    items.emplace_back(name, tensor.detach());
  });
  return Value::dict(std::move(items));
}

std::string LoadReport::text() const {
  std::string out;
  for (const ShapeMismatch& m : mismatched) {
    out += seg::text("size mismatch for ", m.name, ": the checkpoint has ",
                     weights_shape_text(m.found), ", the model ", weights_shape_text(m.expected),
                     "\n");
  }
  if (!unexpected.empty()) {
    out += "unexpected key in source state_dict: " + join(unexpected, ", ") + "\n";
  }
  if (!missing.empty()) out += "missing keys in source state_dict: " + join(missing, ", ") + "\n";
  if (!out.empty()) out.pop_back();
  return out;
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
  for (const char* name :
       {"state_dict", "model", "module", "model_state_dict", "model_state", "net", "network",
        "ema_state_dict", "model_ema", "teacher", "student", "encoder", "target_encoder"}) {
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

LoadReport load_state_dict(torch::nn::Module& module, const Value& state,
                           const LoadOptions& options, const std::string& where) {
  const std::string place = where.empty() ? "" : where + ": ";
  std::vector<std::pair<std::string, at::Tensor>> given;
  try {
    given = named_tensors(find_state_dict(state), options);
  } catch (const CheckpointError& error) {
    if (where.empty()) throw;
    throw CheckpointError(place + error.what());
  }
  std::unordered_map<std::string, at::Tensor> by_name(given.begin(), given.end());
  std::vector<std::regex> ignored;
  for (const std::string& pattern : options.ignore) ignored.push_back(name_pattern(pattern));
  auto is_ignored = [&](const std::string& name) {
    return std::any_of(ignored.begin(), ignored.end(),
                       [&](const std::regex& r) { return std::regex_search(name, r); });
  };
  LoadReport report;
  std::unordered_set<std::string> wanted;
  std::vector<std::pair<torch::Tensor, at::Tensor>> copies;
  visit_weights(module, "", [&](const std::string& name, const torch::Tensor& target) {
    wanted.insert(name);
    const auto found = by_name.find(name);
    if (found == by_name.end()) {
      // Checkpoints of before 2018 have no counters of batches; Python lets them pass too.
      const bool counter =
          name.size() >= 19 && name.compare(name.size() - 19, 19, "num_batches_tracked") == 0;
      if (!counter && !is_ignored(name)) report.missing.push_back(name);
      return;
    }
    const at::Tensor& source = found->second;
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
    if (!wanted.count(name) && !is_ignored(name)) report.unexpected.push_back(name);
  }
  if (options.strict && !report.exact()) {
    throw WeightsMismatch(text(place, "the weights do not fit the model exactly\n", report.text()));
  }
  if (report.matched.empty()) {
    const std::string model_name =
        wanted.empty() ? "" : *std::min_element(wanted.begin(), wanted.end());
    throw WeightsMismatch(
        text(place, "none of the ", given.size(), " weights fits the model",
             given.empty() ? "" : text("; it has names like '", given[0].first, "'"),
             model_name.empty() ? "" : text(", the model names like '", model_name, "'"),
             report.mismatched.empty() ? "" : "\n" + report.text()));
  }
  torch::NoGradGuard no_grad;
  for (auto& [target, source] : copies) {
    target.copy_(source.view(target.sizes()), /*non_blocking=*/false);
  }
  return report;
}

}  // namespace seg
