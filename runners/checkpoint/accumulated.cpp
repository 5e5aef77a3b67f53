#include "runners/checkpoint/accumulated.hpp"

#include <map>
#include <unordered_map>

#include "runners/dist/gather.hpp"
#include "runners/optim/optim_wrapper.hpp"
#include "segcore/dist/communicator.hpp"
#include "segcore/torch.hpp"

namespace seg {

Value gather_accumulated(const OptimWrapper& optimizer, Communicator& communicator) {
  Value out = optimizer.accumulated();
  if (out.is_none()) return out;
  std::unordered_map<std::string, at::Tensor> gradients;
  for (const auto& [name, gradient] : out.at("gradients").as_dict()) {
    gradients[name.as_string()] = gradient.as_tensor();
  }
  std::vector<std::string> names;
  std::vector<at::Tensor> params, own;
  for (const ParamGroup& group : optimizer.optimizer().groups()) {
    for (size_t i = 0; i < group.params.size(); ++i) {
      names.push_back(group.names[i]);
      params.push_back(group.params[i]);
      own.push_back(gradients[group.names[i]]);
    }
  }
  Value ranks = Value::list();
  for (const auto& tensors : gather_tensors(communicator, own, params)) {
    ValueDict of_rank;
    for (size_t i = 0; i < names.size(); ++i) {
      if (tensors[i].defined()) of_rank.emplace_back(names[i], tensors[i]);
    }
    ranks.push_back(Value::dict(std::move(of_rank)));
  }
  out.set("gradients", ranks);
  return out;
}

Value scatter_accumulated(const Value& saved, const Communicator& communicator) {
  const ValueList& ranks = saved.at("gradients").as_list();
  const bool same = ranks.size() == static_cast<size_t>(communicator.size());
  std::map<std::string, at::Tensor> gradients;
  for (size_t r = 0; r < ranks.size(); ++r) {
    const bool mine = same && r == static_cast<size_t>(communicator.rank());
    for (const auto& [name, value] : ranks[r].as_dict()) {
      const at::Tensor& tensor = value.as_tensor();
      at::Tensor& gradient = gradients[name.as_string()];
      if (mine) {
        gradient = tensor;
      } else if (!same) {
        const at::Tensor part = tensor / static_cast<double>(ranks.size());
        gradient = gradient.defined() ? gradient + part : part;
      } else if (!gradient.defined()) {
        gradient = at::zeros_like(tensor);  // a parameter is updated in all ranks or in none
      }
    }
  }
  ValueDict own;
  for (auto& [name, gradient] : gradients) own.emplace_back(name, gradient);
  Value out = Value::dict();
  for (const char* key : {"steps", "loss_weight"}) out.set(key, saved.at(key));
  out.set("gradients", Value::dict(std::move(own)));
  return out;
}

}  // namespace seg
