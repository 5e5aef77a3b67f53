#include "runners/train/recorded_passes.hpp"

#include "registry/log.hpp"
#include "runners/checkpoint/generators.hpp"
#include "segcore/models/nn/follows_progress.hpp"
#include "segcore/models/nn/keeps_results.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

/// After so many records the model's memory is taken to move for ever.
constexpr int kMostRecords = 4;
constexpr size_t kPlacesOfParameter = 3;

void add_form(const at::Tensor& tensor, std::vector<int64_t>& out) {
  if (!tensor.defined()) {
    out.push_back(-1);
    return;
  }
  out.push_back(tensor.dim());
  out.push_back(static_cast<int64_t>(tensor.scalar_type()));
  for (const int64_t size : tensor.sizes()) out.push_back(size);
  for (const int64_t stride : tensor.strides()) out.push_back(stride);
}

/// What of an input passes read; some may be undefined.
constexpr at::Tensor ModelInput::*kTensors[] = {&ModelInput::images, &ModelInput::labels,
                                                &ModelInput::edges, &ModelInput::depth};

uintptr_t place_of(const at::Tensor& tensor) {
  return tensor.defined() ? reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) : 0;
}

void log_that_none_is_recorded(const std::string& why) {
  log::info("cuda_graph: steps are not recorded: ", why);
}

/// The first line of an error, which has the reason.
std::string first_line(const std::exception& error) {
  const auto* of_torch = dynamic_cast<const c10::Error*>(&error);
  const std::string all = of_torch ? of_torch->what_without_backtrace() : error.what();
  return all.substr(0, all.find('\n'));
}

}  // namespace

RecordedPasses::RecordedPasses(Segmentor& model, const OptimWrapper& optimizer,
                               std::unique_ptr<DeviceGraph> graph)
    : optimizer_(optimizer),
      graph_(std::move(graph)),
      modules_(model.modules(/*include_self=*/false)),
      parameters_(model.parameters()),
      buffers_(model.buffers()) {
  for (const auto& module : model.modules()) {
    if (!graph_) break;
    if (dynamic_cast<const FollowsProgress*>(module.get())) {
      give_up("the model changes with the progress of the training");
    } else if (dynamic_cast<const KeepsResults*>(module.get())) {
      give_up("the model keeps results from step to step");
    }
  }
}

std::optional<LossMap> RecordedPasses::run(const ModelInput& input, const Passes& passes) {
  if (!graph_) return std::nullopt;
  Form form = form_of(input);
  if (recorded_ && form != form_) return std::nullopt;
  if (recorded_ && places() != places_) recorded_ = false, rehearsals_ = 0;
  if (!recorded_) {
    if (form != form_) rehearsals_ = 0;
    form_ = std::move(form);
    if (rehearsals_ < kRehearsals) return rehearse(input, passes);
    if (!record(input, passes)) return std::nullopt;
  }
  // Labels that a loss would refuse, or might, go to the plain passes, whose error names the pixel.
  if (!all_fit(input.label_values, label_bounds_)) return std::nullopt;
  return replay(input);
}

RecordedPasses::Form RecordedPasses::form_of(const ModelInput& input) const {
  Form out;
  for (const auto tensor : kTensors) add_form(input.*tensor, out.tensors);
  for (const SampleMeta& meta : input.metas) out.img_shapes.push_back(meta.img_shape);
  out.categories = categories_of(input.metas);
  out.divisor = optimizer_.accumulation_length();
  return out;
}

RecordedPasses::Places RecordedPasses::places() const {
  Places out;  // of each parameter kPlacesOfParameter in front
  for (const torch::Tensor& parameter : parameters_) {
    out.push_back(place_of(parameter));
    out.push_back(place_of(parameter.grad()));
    out.push_back(parameter.requires_grad() ? 1 : 0);
  }
  for (const torch::Tensor& buffer : buffers_) out.push_back(place_of(buffer));
  for (const auto& module : modules_) out.push_back(module->is_training() ? 1 : 0);
  return out;
}

std::optional<LossMap> RecordedPasses::rehearse(const ModelInput& input, const Passes& passes) {
  if (!input.members.empty()) {
    give_up("an ensemble's models have inputs of their own");
    return std::nullopt;
  }
  ++rehearsals_;
  LossMap losses;
  graph_->rehearse([&] { losses = passes(input); });
  return losses;
}

bool RecordedPasses::record(const ModelInput& input, const Passes& passes) {
  if (++records_ > kMostRecords) {
    give_up("the memory of its weights or gradients moves again and again");
    return false;
  }
  const Places before = places();
  const at::Tensor random = generator_state(c10::kCPU);
  std::string why;
  LabelChecks checks;
  try {
    input_ = input;
    for (const auto tensor : kTensors) {
      if ((input.*tensor).defined()) input_.*tensor = at::empty_like(input.*tensor);
    }
    take(input);
    graph_->record([this, passes] {
      losses_ = passes(input_);
      for (auto& [name, value] : losses_) value = value.detach();
    });
    if (places() != before) why = "weights or gradients moved meanwhile";
    if (!generator_state(c10::kCPU).equal(random)) why = "it draws random numbers on the CPU";
  } catch (const std::exception& error) {
    why = first_line(error);
  }
  set_generator_state(c10::kCPU, random);
  if (!why.empty()) {
    for (size_t i = 0; i < parameters_.size(); ++i) {
      const bool had_gradient = before[i * kPlacesOfParameter + 1] != 0;
      if (!had_gradient) parameters_[i].mutable_grad().reset();
    }
    give_up(why);
    return false;
  }
  label_bounds_ = checks.bounds();
  places_ = before;
  recorded_ = true;
  const auto sizes = input_.images.sizes();
  log::info("cuda_graph: steps of ", sizes[0], " images of ", sizes[2], "x", sizes[3],
            " are replayed from a record");
  return true;
}

void RecordedPasses::take(const ModelInput& input) {
  for (const auto tensor : kTensors) {
    if ((input.*tensor).defined()) (input_.*tensor).copy_(input.*tensor);
  }
}

LossMap RecordedPasses::replay(const ModelInput& input) {
  take(input);
  graph_->replay();
  LossMap out = losses_;
  for (auto& [name, value] : out) value = value.clone();
  return out;
}

std::unique_ptr<RecordedPasses> make_recorded_passes(Segmentor& model,
                                                     const OptimWrapper& optimizer,
                                                     c10::Device device, int processes) {
  if (!optimizer.records_steps() || device.is_cpu()) return nullptr;
  auto graph = make_device_graph(device);
  if (!graph || processes > 1) {
    log_that_none_is_recorded(graph ? "several processes sum up gradients during the backward pass"
                                    : "segcore's CUDA module is not loaded");
    return nullptr;
  }
  return std::make_unique<RecordedPasses>(model, optimizer, std::move(graph));
}

void RecordedPasses::give_up(const std::string& why) {
  graph_.reset();
  recorded_ = false;
  input_ = {};
  losses_.clear();
  log_that_none_is_recorded(why);
}

}  // namespace seg
