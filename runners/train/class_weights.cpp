#include "runners/train/class_weights.hpp"

#include "registry/log.hpp"
#include "registry/printed.hpp"
#include "segcore/data/class_pixels.hpp"
#include "segcore/models/loss.hpp"
#include "segcore/models/losses/class_weight.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

std::string weights_text(const std::vector<double>& weights) {
  std::vector<std::string> out;
  for (const double weight : weights) out.push_back(printed("%.3g", weight));
  return join(out, ", ");
}

}  // namespace

void set_class_weights(Segmentor& model, const Dataset& dataset, const RunInfo& run) {
  std::vector<ClassWeight*> waiting;
  for (const auto& module : model.modules()) {
    auto* loss = dynamic_cast<Loss*>(module.get());
    ClassWeight* weight = loss ? loss->class_weight() : nullptr;
    if (weight && weight->needs_counts()) waiting.push_back(weight);
  }
  if (waiting.empty()) return;
  log::info("counting the pixels of each class in ", dataset.size(), " annotations");
  const auto classes = static_cast<size_t>(model.num_classes());
  auto counted = count_class_pixels(dataset, classes, static_cast<size_t>(run.communicator->rank()),
                                    static_cast<size_t>(run.communicator->size()));
  auto sums =
      at::stack({at::tensor(counted.pixels, at::kDouble), at::tensor(counted.around, at::kDouble)});
  run.communicator->all_reduce_sum_(sums);
  const auto row = [&](int64_t i) {
    const auto values = sums[i].contiguous();
    return std::vector<double>(values.const_data_ptr<double>(),
                               values.const_data_ptr<double>() + values.numel());
  };
  counted = {row(0), row(1)};
  for (ClassWeight* weight : waiting) {
    weight->set_counts(counted.pixels, counted.around);
    log::info("class_weight (", weight->rule(), "): ", weights_text(weight->values()));
  }
}

}  // namespace seg
