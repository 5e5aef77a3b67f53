#include "tools/measure/scaling.hpp"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "runners/dist/reducer.hpp"
#include "runners/start/device.hpp"
#include "segcore/models/nn/uses_communicator.hpp"
#include "tools/measure/benchmarked_model.hpp"

namespace seg {
namespace {

/// The mean over all processes: they start each round together, and a slow one holds up the others
/// only where they are joined.
double mean_over_processes(Communicator& communicator, double value) {
  at::Tensor sum = at::tensor({value}, at::kDouble);
  communicator.all_reduce_sum_(sum);
  return sum.item<double>() / communicator.size();
}

}  // namespace

Measured benchmark_scaling(const BenchmarkArguments& arguments, const RunConfig& config,
                           Communicator& communicator, c10::Device device) {
  BenchmarkedModel model(config, device);
  const Batch batch = synthetic_batch(arguments, config, model);
  SingleProcess alone;
  const auto reducer = make_reducer(communicator, model.model(), {});
  constexpr int64_t kStepsOfARound = 4;
  // Both kinds take turns in short rounds, so that what else the machine does hits both.
  const auto round = [&](bool joined, int64_t steps) {
    set_communicator(model.model(), joined ? &communicator : &alone);
    communicator.barrier();
    const double begin = seconds_now();
    for (int64_t i = 0; i < steps; ++i) model.step(batch, joined ? reducer.get() : nullptr);
    synchronize_device(device);
    const double seconds = (seconds_now() - begin) / static_cast<double>(steps);
    return mean_over_processes(communicator, seconds);
  };
  for (const bool joined : {false, true}) round(joined, std::max<int64_t>(arguments.warmup, 1));
  std::vector<double> apart, together, ratios;
  const int64_t rounds = std::max<int64_t>(1, arguments.iters / kStepsOfARound);
  for (int64_t i = 0; i < rounds; ++i) {
    apart.push_back(round(false, kStepsOfARound));
    together.push_back(round(true, kStepsOfARound));
    ratios.push_back(apart.back() / together.back());
  }
  const auto images = static_cast<double>(batch.size()) * communicator.size();
  return {{"processes", communicator.size()},
          {"batch_size", batch.size()},
          {"rounds", rounds},
          {"steps_a_round", kStepsOfARound},
          {"seconds_per_step_apart", rounded(median(apart))},
          {"seconds_per_step_joined", rounded(median(together))},
          {"images_per_second_apart", rounded(images / median(apart))},
          {"images_per_second_joined", rounded(images / median(together))},
          {"ratio", rounded(median(ratios))},
          {"share_of_exposed_communication", rounded(std::max(0.0, 1 - median(ratios)))}};
}

}  // namespace seg
