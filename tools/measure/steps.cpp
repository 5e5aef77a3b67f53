#include "tools/measure/steps.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <sstream>

#include "runners/start/device.hpp"
#include "runners/start/environment.hpp"
#include "tools/measure/benchmarked_model.hpp"

namespace seg {
namespace {

/// Seconds since the kernel started this process, which is before its libraries were loaded.
double process_age() {
  std::ifstream file("/proc/self/stat");
  std::string stat;
  std::getline(file, stat);
  // The name in brackets may hold blanks; the start is the 20th field after it.
  std::istringstream fields(stat.substr(stat.rfind(')') + 2));
  std::string field;
  for (int i = 0; i < 20; ++i) fields >> field;
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9 -
         std::stod(field) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

/// Of the device, or of the whole process on a CPU.
int64_t peak_memory_mb(c10::Device device) {
  if (const auto peak = take_peak_memory_mb(device)) return *peak;
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss / 1024;
}

std::unique_ptr<DataLoader> training_loader(const RunConfig& config,
                                            std::optional<int64_t> threads) {
  if (!config.train_dataloader) {
    throw DataError("the configuration has no 'train_dataloader' to measure");
  }
  DataLoaderParams params = *config.train_dataloader;
  if (threads) params.num_workers = *threads;
  return std::make_unique<DataLoader>(params, LoaderPlace{.seed = 0});
}

Batch next_batch(DataLoader& loader) {
  auto batch = loader.next();
  if (!batch) throw DataError("the loader has no more batches");
  return std::move(*batch);
}

}  // namespace

Measured benchmark_step(const BenchmarkArguments& arguments, const RunConfig& config,
                        c10::Device device) {
  BenchmarkedModel model(config, device);
  model.record_steps();
  const Batch batch = synthetic_batch(arguments, config, model);
  for (int64_t i = 0; i < arguments.warmup; ++i) model.step(batch);
  synchronize_device(device);
  take_peak_memory_mb(device);
  std::vector<double> seconds;
  const double first = seconds_now();
  for (int64_t i = 0; i < arguments.iters; ++i) {
    const double begin = seconds_now();
    model.step(batch);
    seconds.push_back(seconds_now() - begin);
  }
  if (!device.is_cpu()) {
    // Steps are queued, as in a run: only all of them together can be timed.
    synchronize_device(device);
    seconds.assign(seconds.size(), (seconds_now() - first) / static_cast<double>(arguments.iters));
  }
  Measured out = time_summary(seconds, static_cast<int64_t>(batch.size()));
  out["shape"] = model.input_shape();
  out["peak_memory_mb"] = peak_memory_mb(device);
  out["loss"] = rounded(model.loss());
  return out;
}

Measured benchmark_data(const BenchmarkArguments& arguments, const RunConfig& config) {
  apply_environment(config.env_cfg, config.randomness.deterministic);
  std::vector<int64_t> counts = arguments.threads;
  if (counts.empty()) {
    counts.push_back(config.train_dataloader ? config.train_dataloader->num_workers : 0);
  }
  Measured out = Measured::array();
  for (const int64_t threads : counts) {
    const auto loader = training_loader(config, threads);
    loader->start();
    // Batches loaded ahead are not counted: first as many are taken as the loader may hold.
    const int64_t ahead = std::max<int64_t>(arguments.warmup, 2 * threads + 1);
    for (int64_t i = 0; i < ahead; ++i) next_batch(*loader);
    const double begin = seconds_now();
    size_t images = 0;
    for (int64_t i = 0; i < arguments.iters; ++i) images += next_batch(*loader).size();
    const double seconds = seconds_now() - begin;
    loader->stop();
    out.push_back({{"threads", threads},
                   {"batch_size", loader->batch_size()},
                   {"images", images},
                   {"images_per_second", rounded(static_cast<double>(images) / seconds)}});
  }
  return out;
}

Measured benchmark_train(const BenchmarkArguments& arguments, const RunConfig& config,
                         c10::Device device) {
  BenchmarkedModel model(config, device);
  model.record_steps();
  std::optional<int64_t> threads;
  if (!arguments.threads.empty()) threads = arguments.threads[0];
  const auto loader = training_loader(config, threads);
  loader->start();
  for (int64_t i = 0; i < arguments.warmup; ++i) model.step(next_batch(*loader));
  synchronize_device(device);
  take_peak_memory_mb(device);
  std::vector<double> seconds;
  double waited = 0, all = 0;
  for (int64_t i = 0; i < arguments.iters; ++i) {
    const double begin = seconds_now();
    const Batch batch = next_batch(*loader);
    waited += seconds_now() - begin;
    model.step(batch);
    // A step's loss is read, as a run's log reads it: else the queue of the device would grow
    // without end, and waiting for data would hide behind it.
    model.loss();
    seconds.push_back(seconds_now() - begin);
    all += seconds.back();
  }
  loader->stop();
  Measured out = time_summary(seconds, loader->batch_size());
  out["threads"] = threads.value_or(config.train_dataloader->num_workers);
  out["share_waiting_for_data"] = rounded(waited / all);
  out["peak_memory_mb"] = peak_memory_mb(device);
  out["loss"] = rounded(model.loss());
  return out;
}

Measured benchmark_start(const RunConfig& config, c10::Device device) {
  const double configured = process_age();
  const auto loader = training_loader(config, std::nullopt);
  loader->start();
  BenchmarkedModel model(config, device);
  const double built = process_age();
  const Batch batch = next_batch(*loader);
  const double loaded = process_age();
  model.step(batch);
  const double loss = model.loss();
  const double done = process_age();
  loader->stop();
  return {{"seconds_to_config", rounded(configured)},
          {"seconds_to_model", rounded(built)},
          {"seconds_to_first_batch", rounded(loaded)},
          {"seconds_to_first_step", rounded(done)},
          {"loss", rounded(loss)}};
}

}  // namespace seg
