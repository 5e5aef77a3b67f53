/// The forward and backward pass of training as one record of the device.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runners/optim/optim_wrapper.hpp"
#include "runners/train/device_graph.hpp"
#include "segcore/models/known_labels.hpp"
#include "segcore/models/segmentor.hpp"

namespace seg {

/// Starts the passes of a step as a whole: of kernels that are started one by one, a GPU waits for
/// most. The first steps of inputs of one form are run in the graph's queue, the next is recorded,
/// and what follows only replays it with its own input. Results are those of the passes: losses,
/// gradients, running statistics, random numbers.
///
/// Passes that cannot be recorded are left to the caller, and the log says why, once.
class RecordedPasses {
 public:
  /// Forward and backward pass: adds gradients to those of the parameters. \return the losses.
  using Passes = std::function<LossMap(const ModelInput&)>;
  /// Steps before the one that is recorded.
  static constexpr int kRehearsals = 3;

  /// \param optimizer  keeps gradients (`keep_gradients`): they stay where they were recorded.
  ///                   Borrowed, as the model.
  RecordedPasses(Segmentor& model, const OptimWrapper& optimizer,
                 std::unique_ptr<DeviceGraph> graph);

  /// \return the losses, not differentiable; nothing where the passes are to be run without it:
  ///         inputs of another form than is recorded, labels that a loss would refuse, and all
  ///         where recording did not work.
  std::optional<LossMap> run(const ModelInput& input, const Passes& passes);

 private:
  /// What is fixed when kernels are recorded: all of an input but the values of its tensors, and
  /// what the optimizer divides losses by.
  struct Form {
    std::vector<int64_t> tensors;
    std::vector<std::array<int64_t, 2>> img_shapes;
    std::vector<int64_t> categories;
    int64_t divisor = 1;
    bool operator==(const Form&) const = default;
  };
  /// Places of weights, buffers and gradients in memory, what is trained, and which modules are.
  using Places = std::vector<uintptr_t>;

  Form form_of(const ModelInput& input) const;
  Places places() const;
  std::optional<LossMap> rehearse(const ModelInput& input, const Passes& passes);
  /// \return whether it worked.
  bool record(const ModelInput& input, const Passes& passes);
  /// Copies an input to where the recorded kernels read.
  void take(const ModelInput& input);
  LossMap replay(const ModelInput& input);
  void give_up(const std::string& why);

  const OptimWrapper& optimizer_;
  std::unique_ptr<DeviceGraph> graph_;  ///< null: given up
  std::vector<std::shared_ptr<torch::nn::Module>> modules_;
  std::vector<torch::Tensor> parameters_, buffers_;
  Form form_;  ///< of the last rehearsal, or of what is recorded
  int rehearsals_ = 0, records_ = 0;
  bool recorded_ = false;
  ModelInput input_;  ///< what the recorded kernels read
  LossMap losses_;    ///< what they write
  std::vector<LabelBounds> label_bounds_;
  Places places_;
};

/// For `optim_wrapper.cuda_graph`: null where it is false or the device has no graphs, and for
/// several processes, whose gradients are summed while the backward pass goes on; the log says so.
std::unique_ptr<RecordedPasses> make_recorded_passes(Segmentor& model,
                                                     const OptimWrapper& optimizer,
                                                     c10::Device device, int processes);

}  // namespace seg
