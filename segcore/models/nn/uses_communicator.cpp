#include "segcore/models/nn/uses_communicator.hpp"

#include "segcore/dist/communicator.hpp"
#include "segcore/models/nn/base_module.hpp"
#include "segcore/torch.hpp"

namespace seg {

Communicator* UsesCommunicator::communicator() const {
  return communicator_ && communicator_->size() > 1 ? communicator_ : nullptr;
}

void UsesCommunicator::average_over_processes_(at::Tensor& values) const {
  auto* others = communicator();
  if (!others) return;
  others->all_reduce_sum_(values);
  values.div_(others->size());
}

void set_communicator(torch::nn::Module& model, Communicator* communicator) {
  for_each_module(model, [communicator](torch::nn::Module& m) {
    if (auto* module = dynamic_cast<UsesCommunicator*>(&m)) module->set_communicator(communicator);
  });
}

}  // namespace seg
