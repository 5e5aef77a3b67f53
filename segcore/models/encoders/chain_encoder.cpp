#include "segcore/models/encoders/chain_encoder.hpp"

#include "segcore/models/blocks/named_chain.hpp"
#include "segcore/models/nn/recomputation_plan.hpp"
#include "segcore/models/nn/recompute.hpp"
#include "segcore/torch.hpp"

namespace seg {
ChainEncoder::ChainEncoder(EncoderFacts facts, const EncoderOptions& options)
    : Encoder(std::move(facts), options), level_(this->facts().image_channels > 0 ? 0 : 1) {
  if (this->facts().channels.front() == 0) ++level_;
}

void ChainEncoder::add_layer(const std::string& name, const std::shared_ptr<Layer>& layer) {
  register_at(*this, name, layer);
  add_step(name, layer);
}

void ChainEncoder::add_children_of(const std::string& prefix, std::shared_ptr<Layer> layer) {
  for (const auto& child : layer->named_children()) {
    register_module(prefix + child.key(), child.value());
  }
  add_step(prefix, layer);
}

void ChainEncoder::add_step(const std::string& name, const std::shared_ptr<Layer>& layer) {
  if (level_ > depth()) leave_untrained(*layer);
  // The blocks of a sequence run as such by themselves.
  const bool is_block = !dynamic_cast<Sequential*>(layer.get()) && count_products(*layer) > 1;
  steps_.push_back({.name = name, .layer = layer, .level = level_, .is_block = is_block});
}

void ChainEncoder::end_level(std::function<torch::Tensor(const torch::Tensor&)> map) {
  steps_.back().map = Map::kOutput;
  steps_.back().map_of_output = std::move(map);
  ++level_;
}

void ChainEncoder::add_with_inner_map(const std::string& name,
                                      std::shared_ptr<LayerWithInnerMap> layer) {
  add_layer(name, layer);
  if (level_ == depth()) {
    for (const auto& part : layer->behind_inner_map()) leave_untrained(*part);
  }
  steps_.back().map = Map::kInner;
  ++level_;
}

std::vector<torch::Tensor> ChainEncoder::forward(const torch::Tensor& images) {
  std::vector<torch::Tensor> out;
  if (facts().image_channels == 0) out.push_back(images);
  const bool starts_at_a_quarter = facts().channels.front() == 0;
  const int64_t last = depth() + (runs_one_more_ && is_training() ? 1 : 0);
  auto x = images;
  for (const auto& step : steps_) {
    if (step.level > last) break;
    if (step.level > depth() && x.requires_grad()) x = x.detach();
    if (step.map == Map::kInner) {
      auto both = static_cast<LayerWithInnerMap&>(*step.layer).forward_both(x);
      if (step.level <= depth()) out.push_back(std::move(both.inner));
      x = std::move(both.last);
    } else {
      x = step.is_block ? forward_block(*step.layer, x) : step.layer->forward(x);
      if (step.map == Map::kOutput && step.level <= depth()) {
        out.push_back(step.map_of_output ? step.map_of_output(x) : x);
      }
    }
  }
  if (starts_at_a_quarter) out.insert(out.begin() + 1, empty_half(images, x));
  return out;
}

std::vector<torch::Tensor> ChainEncoder::outputs_of(const std::vector<std::string>& names,
                                                    const torch::Tensor& images) {
  std::vector<torch::Tensor> out(names.size());
  auto x = images;
  for (const auto& step : steps_) {
    x = step.layer->forward(x);
    for (size_t i = 0; i < names.size(); ++i) {
      if (names[i] == step.name) out[i] = x;
    }
  }
  for (size_t i = 0; i < names.size(); ++i) {
    SEG_CHECK(out[i].defined(), facts().name, " has no layer '", names[i], "'");
  }
  return out;
}

}  // namespace seg
