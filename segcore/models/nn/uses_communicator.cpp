#include "segcore/models/nn/communicates.hpp"

#include "segcore/dist/communicator.hpp"
#include "segcore/models/weights/init.hpp"
#include "segcore/torch.hpp"

namespace seg {

Communicator* Communicates::others() const {
  return communicator_ && communicator_->size() > 1 ? communicator_ : nullptr;
}

void Communicates::average_over_processes_(at::Tensor& values) const {
  auto* communicator = others();
  if (!communicator) return;
  communicator->all_reduce_sum_(values);
  values.div_(communicator->size());
}

void connect_modules(torch::nn::Module& model, Communicator* communicator) {
  for_each_module(model, [communicator](torch::nn::Module& m) {
    if (auto* module = dynamic_cast<Communicates*>(&m)) module->connect(communicator);
  });
}

}  // namespace seg
