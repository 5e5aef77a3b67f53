#include "segcore/models/segmentor.hpp"

#include <algorithm>
#include <regex>
#include <set>

#include "registry/log.hpp"
#include "segcore/memory/recomputation.hpp"
#include "segcore/models/backbone.hpp"
#include "segcore/models/known_labels.hpp"
#include "segcore/models/nn/norm.hpp"
#include "segcore/torch.hpp"

namespace seg {

torch::Tensor total_loss(const LossMap& losses) {
  torch::Tensor sum;
  for (const auto& [name, value] : losses) {
    if (name.find("loss") == std::string::npos) continue;
    sum = sum.defined() ? sum + value : value;
  }
  SEG_CHECK(sum.defined(), "the model returned no loss");
  return sum;
}

void check_targets(const Targets& targets, bool learns_depth) {
  if (learns_depth && !targets.depth.defined()) {
    throw DataError(
        "the model learns depth, but the training data have none: use NYUDataset with "
        "data_prefix.depth_map_path, and LoadDepthAnnotation in its pipeline");
  }
  if (!learns_depth && !targets.labels.defined()) {
    throw DataError(
        "the model learns classes, but the training data have maps of depth: use the type "
        "DepthEstimator with a head that estimates depth, or a data set with classes");
  }
}

namespace {

/// Adds the blocks under `with_cp` of the backbones below a module.
void add_recomputed_blocks(const torch::nn::Module& module, BlockSet& blocks) {
  for (const auto& child : module.children()) {
    if (const auto* backbone = dynamic_cast<const Backbone*>(child.get())) {
      const BlockSet& own = backbone->recomputed_blocks();
      blocks.insert(own.begin(), own.end());
    }
    add_recomputed_blocks(*child, blocks);
  }
}

}  // namespace

LossMap Segmentor::loss(const torch::Tensor& images, const Targets& targets) {
  BlockSet recomputed;
  add_recomputed_blocks(*this, recomputed);
  const RecomputesBlocks with_cp(recomputed.empty() ? nullptr : &recomputed);
  const SavesRecomputations less_memory;
  const KnownLabels known(targets.label_values);
  return compute_loss(images, targets);
}

std::optional<int64_t> Segmentor::bands() const {
  for (const auto& weight : parameters()) {
    if (weight.dim() == 4) return weight.size(1);
  }
  return std::nullopt;
}

void Segmentor::freeze(const std::vector<std::string>& expressions) {
  std::set<const at::TensorImpl*> frozen;
  for (const std::string& expression : expressions) {
    const std::regex wanted(expression);
    bool found = false;
    for (auto& parameter : named_parameters()) {
      if (!std::regex_search(parameter.key(), wanted)) continue;
      parameter.value().set_requires_grad(false);
      frozen.insert(parameter.value().unsafeGetTensorImpl());
      found = true;
    }
    if (!found) {
      throw OptionError("", text("no parameter has '", expression,
                                 "' in its name; tools/inspect --state-dict lists them"));
    }
  }
  const auto all = parameters();
  int64_t count = 0;
  for (const auto& p : all) count += frozen.contains(p.unsafeGetTensorImpl()) ? p.numel() : 0;
  if (std::none_of(all.begin(), all.end(), [](const auto& p) { return p.requires_grad(); })) {
    throw OptionError("", "leaves no parameter to train");
  }
  log::info("freeze: ", frozen.size(), " tensors, ", count, " parameters");
  for (const auto& module : modules(/*include_self=*/false)) {
    const auto* norm = dynamic_cast<const Norm*>(module.get());
    if (!norm || !norm->is_batch_norm() || !norm->weight.defined()) continue;
    if (frozen.contains(norm->weight.unsafeGetTensorImpl()) &&
        frozen.contains(norm->bias.unsafeGetTensorImpl())) {
      frozen_norms_.push_back(module);
    }
  }
}

void Segmentor::train(bool on) {
  BaseModule::train(on);
  for (const auto& norm : frozen_norms_) norm->eval();
}

}  // namespace seg
