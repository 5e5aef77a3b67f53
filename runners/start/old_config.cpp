#include "runners/start/old_config.hpp"

#include "registry/text.hpp"

namespace seg {

std::string old_config_problem(const Config& tree, Origin& where) {
  // Each of these has another name in 1.x; a variable of one such name alone proves nothing.
  std::vector<std::string> found;
  const auto look_for = [&](const std::string& path) {
    const Config* value = tree.at_path(path);
    if (!value || value->is_null()) return;
    if (found.empty()) where = value->origin;
    found.push_back(path);
  };
  for (const char* path : {"data.samples_per_gpu", "data.train", "optimizer", "optimizer_config",
                           "lr_config", "runner", "total_iters", "evaluation"}) {
    look_for(path);
  }
  const bool is_new = tree.find("train_dataloader") || tree.find("optim_wrapper") ||
                      tree.find("val_dataloader") || tree.find("test_dataloader");
  if (found.size() < 2 || is_new) return {};
  return text(
      "this is a configuration of MMSegmentation 0.x (it has ", join(found, ", "),
      "), and only those of 1.x are read. Write train_dataloader, val_dataloader and "
      "test_dataloader instead of data, optim_wrapper instead of optimizer and "
      "optimizer_config, param_scheduler instead of lr_config, train_cfg instead of runner, "
      "val_evaluator and test_evaluator instead of evaluation; the migration guide of "
      "MMSegmentation 1.x has the details");
}

}  // namespace seg
