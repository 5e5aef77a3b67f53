/// Modules that need the other processes of a run.
#pragma once
#include <ATen/core/Tensor.h>

namespace torch::nn {
class Module;
}

namespace seg {

class Communicator;

/// What a module derives from, beside its own base, that exchanges numbers with the other processes
/// in its forward pass or in its losses.
class Communicates {
 public:
  virtual ~Communicates() = default;
  /// \param communicator  must outlive the module's use; null: this process alone.
  void connect(Communicator* communicator) { communicator_ = communicator; }

 protected:
  /// The communicator, or null where there is nobody to exchange with.
  Communicator* others() const;
  /// Replaces the values by their means over all processes. Collective.
  void average_over_processes_(at::Tensor& values) const;

 private:
  Communicator* communicator_ = nullptr;
};

/// Connects everything in a model that communicates. A run does so once it has built the model.
void connect_modules(torch::nn::Module& model, Communicator* communicator);

}  // namespace seg
