/// Modules that exchange numbers with the other processes of a run.
#pragma once
#include <ATen/core/Tensor.h>

namespace torch::nn {
class Module;
}

namespace seg {

class Communicator;

/// Base, beside its own, of a module that communicates in its forward pass or losses: batch norm,
/// running means, counts that losses are divided by.
class UsesCommunicator {
 public:
  virtual ~UsesCommunicator() = default;
  /// \param communicator  must outlive the module's use; null: this process is alone.
  void set_communicator(Communicator* communicator) { communicator_ = communicator; }

 protected:
  /// Null where there is no other process.
  Communicator* communicator() const;
  /// Replaces the values by their means over all processes. Collective.
  void average_over_processes_(at::Tensor& values) const;

 private:
  Communicator* communicator_ = nullptr;
};

/// Sets the communicator of every module of a model that uses one. A run does so once it has built
/// the model.
void set_communicator(torch::nn::Module& model, Communicator* communicator);

}  // namespace seg
