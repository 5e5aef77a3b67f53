#include "segcore/io/weights.hpp"

#include <torch/nn/module.h>
#include <torch/utils.h>

#include <algorithm>
#include <regex>
#include <unordered_map>
#include <unordered_set>

#include "registry/error.hpp"
#include "segcore/io/dtypes.hpp"
#include "segcore/io/named_weights.hpp"
#include "segcore/io/weight_names.hpp"

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

std::unordered_set<std::string> weight_names_of(const torch::nn::Module& module) {
  std::unordered_set<std::string> out;
  visit_weights(module, "", [&](const std::string& name, const at::Tensor&) { out.insert(name); });
  return out;
}

/// A tensor without numbers here: quantised, sparse, or of a type that LibTorch lacks.
bool is_unread_tensor(const Value& v) {
  if (!v.is_opaque()) return false;
  const std::string& type = v.as_opaque().type;
  return type.starts_with("torch._utils._rebuild_") || type.starts_with("torch.Tensor of ");
}

bool is_state_dict(const Value& v) {
  if (!v.is_dict() || v.as_dict().empty()) return false;
  size_t entries = 0, tensors = 0, unread = 0;
  for (const auto& [key, value] : v.as_dict()) {
    if (!key.is_string()) return false;
    if (key.as_string() == "__metadata__") continue;  // of safetensors
    ++entries;
    if (value.is_tensor()) ++tensors;
    if (is_unread_tensor(value)) ++unread;
  }
  // EMA and fp16 dumps keep a few numbers between the tensors.
  return tensors > 0 && (tensors + unread) * 2 > entries;
}

/// "; it has state_dict, ema_state_dict", or "".
std::string state_dicts_text(const Value& checkpoint) {
  if (!checkpoint.is_dict()) return "";
  std::vector<std::string> names;
  for (const auto& [key, value] : checkpoint.as_dict()) {
    if (key.is_string() && is_state_dict(value)) names.push_back(key.as_string());
  }
  return names.empty() ? "" : "; it has " + join(names, ", ");
}

/// Whether a model's weights can take the numbers of this type.
bool is_number_type(at::ScalarType type) {
  return type != at::kFloat4_e2m1fn_x2 && (at::isFloatingType(type) || at::isComplexType(type) ||
                                           at::isIntegralType(type, /*includeBool=*/true));
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

Value find_state_dict(const Value& checkpoint, const std::string& key) {
  if (!key.empty()) {
    const Value* found = checkpoint.find(key);
    if (!found || !found->is_dict()) {
      throw CheckpointError(
          text("there is no state dict '", key, "' in it", state_dicts_text(checkpoint)));
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
    names.push_back(text(name.is_string() ? "'" + name.as_string() + "'" : name.kind_text(), " (",
                         value.kind_text(), ")"));
  }
  throw CheckpointError(names.empty()
                            ? std::string("there are no weights in it: it is an empty dict")
                            : text("there are no weights in it: it holds ", join(names, ", ")));
}

Value named_weights(const Value& checkpoint, const LoadOptions& options, const std::string& where,
                    const std::function<bool(const std::string&)>& fits) {
  try {
    ValueDict items;
    for (auto& [name, tensor] :
         tensors_by_name(find_state_dict(checkpoint), options, fits, where)) {
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
  std::unordered_set<std::string> own_names = weight_names_of(module);
  NamedTensors given;
  try {
    given = tensors_by_name(
        find_state_dict(state), options,
        [&](const std::string& name) { return own_names.contains(name); }, where);
  } catch (const CheckpointError& error) {
    throw CheckpointError(place + error.what());
  }
  call_before_load(module, "", given);
  own_names = weight_names_of(module);  // some modules make buffers for weights that bring them
  std::unordered_map<std::string, at::Tensor> by_name(given.begin(), given.end());
  std::vector<std::regex> ignored;
  for (const std::string& pattern : options.ignore) ignored.push_back(name_pattern(pattern));
  auto is_ignored = [&](const std::string& name) {
    return std::any_of(ignored.begin(), ignored.end(),
                       [&](const std::regex& r) { return std::regex_search(name, r); });
  };
  LoadReport report;
  NamedTensors wanted;
  std::vector<std::pair<torch::Tensor, at::Tensor>> copies;
  visit_weights(module, "", [&](const std::string& name, const torch::Tensor& target) {
    wanted.emplace_back(name, target);
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
    if (!is_number_type(source.scalar_type())) {
      throw CheckpointError(text(place, "'", name, "' is of type ",
                                 dtype_name(source.scalar_type()),
                                 ", of which no weights can be made"));
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
    std::string names = nearest_names_text(given, wanted, where, options.in_config);
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
