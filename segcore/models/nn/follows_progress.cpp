#include "segcore/models/nn/follows_progress.hpp"

#include "segcore/models/nn/base_module.hpp"
#include "segcore/torch.hpp"

namespace seg {

void set_progress(torch::nn::Module& model, int64_t iter, int64_t max_iters) {
  for_each_module(model, [&](torch::nn::Module& m) {
    if (auto* module = dynamic_cast<FollowsProgress*>(&m)) module->set_progress(iter, max_iters);
  });
}

}  // namespace seg
