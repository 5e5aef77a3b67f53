#include "runners/start/session.hpp"

#include <chrono>
#include <filesystem>
#include <random>
#include <thread>

#include "registry/log.hpp"
#include "runners/checkpoint/generators.hpp"
#include "runners/start/device.hpp"
#include "runners/start/environment.hpp"
#include "runners/start/time_stamp.hpp"
#include "segcore/io/atomic_file.hpp"
#include "segcore/torch.hpp"

namespace fs = std::filesystem;

namespace seg {
namespace {

/// This process before it joins others and writes files.
struct LocalProcess {
  LaunchPlace place;
  c10::Device device = c10::kCPU;
  uint64_t seed = 0;  ///< where the config has none, each process has drawn its own
};

/// The first rank's number in all of them.
int64_t agree(Communicator& communicator, int64_t value) {
  at::Tensor shared = at::tensor({value}, at::kLong);
  communicator.broadcast_(shared, 0);
  return shared.item<int64_t>();
}

/// Makes <work_dir>/<time> for this launch; launches within one second wait for the next.
/// \return the time stamp.
std::string make_log_folder(const std::string& work_dir, Communicator& communicator) {
  int64_t seconds = 0;
  if (communicator.rank() == 0) {
    make_folders(work_dir);
    do {
      if (seconds != 0) std::this_thread::sleep_for(std::chrono::milliseconds(100));
      seconds = static_cast<int64_t>(std::time(nullptr));
    } while (!fs::create_directory(work_dir + "/" + time_stamp(seconds)));
    make_folders(work_dir + "/" + time_stamp(seconds) + "/vis_data");
  }
  return time_stamp(agree(communicator, seconds));
}

/// All processes take the first one's seed and the state of its generators, as if each had built
/// its model with that seed. Under `diff_rank_seed` the others are seeded anew by rank.
uint64_t agree_on_seed(const RunConfig& config, const LocalProcess& process,
                       Communicator& communicator) {
  const auto seed = static_cast<uint64_t>(agree(communicator, static_cast<int64_t>(process.seed)));
  if (communicator.size() == 1) return seed;
  if (config.randomness.diff_rank_seed) {
    const auto rank = static_cast<uint64_t>(communicator.rank());
    if (rank > 0) torch::manual_seed(seed + rank);
    return seed;
  }
  at::Tensor state = generator_state(process.device);
  communicator.broadcast_(state, 0);
  set_generator_state(process.device, state);
  return seed;
}

/// Chooses the device, applies `env_cfg` and seeds the generators.
LocalProcess start_process(const RunConfig& config, std::optional<uint64_t> resumed_seed) {
  LocalProcess process;
  process.device =
      choose_device(config.env_cfg.device, local_rank(config.launcher), config.launcher);
  process.place = launch_place(config.launcher);
  log::set_rank(process.place.rank);
  log::set_level(config.log_level);
  apply_environment(config.env_cfg, config.randomness.deterministic);
  if (resumed_seed) {
    process.seed = *resumed_seed;
  } else if (config.randomness.seed) {
    process.seed = static_cast<uint64_t>(*config.randomness.seed);
  } else {
    // As MMEngine draws it: below 2^31, so that it can be written into a config.
    process.seed = std::random_device{}() >> 1;
  }
  torch::manual_seed(process.seed);
  return process;
}

/// Opens the log of this process: one for the run, and beside it one for each of the processes that
/// keep quiet on the console.
void open_log(const RunInfo& run) {
  if (run.is_main()) {
    log::open_file(run.log_dir + "/" + run.timestamp + ".log");
    return;
  }
  const std::string folder = run.log_dir + "/ranks";
  try {
    make_folders(folder);
    log::open_file(text(folder, "/rank_", run.communicator->rank(), ".log"));
  } catch (const DataError& e) {
    // Another machine may not have the work dir, and needs it for nothing else.
    log::warn(e.what());
  }
}

Session open_session(const RunConfig& config, const LocalProcess& process) {
  Session session;
  session.communicator = join_processes(config.launcher, config.env_cfg, process.device);
  RunInfo& run = session.run;
  run.config = &config;
  run.communicator = session.communicator.get();
  run.device = process.device;
  run.work_dir = config.output_folder();
  run.timestamp = make_log_folder(run.work_dir, *session.communicator);
  run.log_dir = run.work_dir + "/" + run.timestamp;
  run.experiment_name = config.experiment_name.value_or(config.stem()) + "_" + run.timestamp;
  open_log(run);
  run.seed = agree_on_seed(config, process, *session.communicator);
  log::details(environment_text(run));
  log::details("Config:\n" + dump_yaml(config.tree));
  return session;
}

}  // namespace

StartedRun start_run(const RunConfig& config, PartsWanted wanted,
                     std::optional<uint64_t> resumed_seed) {
  const LocalProcess process = start_process(config, resumed_seed);
  wanted.place = process.place;
  wanted.device = process.device;
  log::Held messages;
  RunParts parts = build_parts(config, wanted);
  messages.stop();
  Session session = open_session(config, process);
  messages.release();
  log::info("Hooks will be executed in the following order:", parts.hooks.listing());
  return {std::move(session), std::move(parts)};
}

}  // namespace seg
