#include <torch/csrc/autograd/profiler_kineto.h>

#include <filesystem>
#include <set>

#include "registry/log.hpp"
#include "runners/hooks/hook.hpp"
#include "runners/start/device.hpp"
#include "segcore/io/atomic_file.hpp"

namespace fs = std::filesystem;

namespace seg {

/// Where a trace is written, as MMEngine's configs have it.
struct TraceOutput {
  std::optional<std::string> dir_name;
  static Schema<TraceOutput> schema() {
    return Schema<TraceOutput>("Where the trace is written.")
        .accepted("type", "there is one, tb_trace")
        .optional("dir_name", &TraceOutput::dir_name, "folder below the log folder")
        .accepted("worker_name", "the file is trace.pt.trace.json");
  }
};

struct ProfilerHookParams : HookParams {
  bool by_epoch = true;
  int64_t profile_times = 1;
  bool activity_with_cpu = true;
  bool activity_with_cuda = false;
  std::optional<TraceOutput> on_trace_ready;
  bool record_shapes = false;
  bool profile_memory = false;
  bool with_stack = false;
  bool with_flops = false;
  std::optional<std::string> json_trace_path;
};

/// Records a trace of the first steps for chrome://tracing or Perfetto.
class ProfilerHook final : public Hook {
 public:
  using Params = ProfilerHookParams;
  static Schema<Params> schema() {
    return Schema<Params>("Records a trace of the first steps or epochs.")
        .source("MMEngine 0.10, ProfilerHook")
        .include(HookParams::schema())
        .optional("by_epoch", &Params::by_epoch, "profile_times counts epochs instead of steps")
        .optional("profile_times", &Params::profile_times, "steps or epochs to record", at_least(1))
        .optional("activity_with_cpu", &Params::activity_with_cpu, "record the CPU")
        .optional("activity_with_cuda", &Params::activity_with_cuda, "record the GPU")
        .accepted("schedule", "recording begins with the first step")
        .optional("on_trace_ready", &Params::on_trace_ready,
                  "{type: tb_trace, dir_name: DIR}: folder of the trace")
        .optional("record_shapes", &Params::record_shapes, "with the shapes of inputs")
        .optional("profile_memory", &Params::profile_memory, "with allocations")
        .optional("with_stack", &Params::with_stack, "with the places in the source")
        .optional("with_flops", &Params::with_flops, "with estimates of operations")
        .optional("json_trace_path", &Params::json_trace_path,
                  "file of the trace; null: trace.json beside the log");
  }
  explicit ProfilerHook(const Params& params) : Hook(params, Priority::kVeryLow), params_(params) {}

  void before_train(const RunInfo& run, const Progress&) override {
    using torch::profiler::impl::ActivityType;
    std::set<ActivityType> activities;
    if (params_.activity_with_cpu) activities.insert(ActivityType::CPU);
    if (params_.activity_with_cuda && !run.device.is_cpu()) activities.insert(ActivityType::CUDA);
    const torch::profiler::impl::ProfilerConfig config(
        torch::profiler::impl::ProfilerState::KINETO, params_.record_shapes, params_.profile_memory,
        params_.with_stack, params_.with_flops);
    torch::autograd::profiler::prepareProfiler(config, activities);
    torch::autograd::profiler::enableProfiler(config, activities);
    running_ = true;
    log::info("The profiler records the first ", params_.profile_times,
              params_.by_epoch ? " epochs" : " steps");
  }
  void after_train_iter(const RunInfo& run, const Progress& progress, const StepResult&,
                        RunControl&) override {
    if (!running_) return;
    if (params_.by_epoch && progress.by_epoch && !progress.ends_epoch()) return;
    if (++done_ >= params_.profile_times && (!params_.by_epoch || progress.by_epoch)) finish(run);
  }
  void after_train(const RunInfo& run, const Progress&) override {
    if (running_) finish(run);
  }
  void on_stop(const RunInfo& run, const Progress&, RunControl&) override {
    if (running_) finish(run);
  }

 private:
  void finish(const RunInfo& run) {
    running_ = false;
    synchronize_device(run.device);
    const auto result = torch::autograd::profiler::disableProfiler();
    if (!run.is_main()) return;
    std::string path = run.log_dir + "/trace.json";
    if (params_.on_trace_ready && params_.on_trace_ready->dir_name) {
      path = (fs::path(run.log_dir) / *params_.on_trace_ready->dir_name / "trace.pt.trace.json")
                 .string();
    }
    if (params_.json_trace_path) path = *params_.json_trace_path;
    make_folders(fs::absolute(path).parent_path().string());
    result->save(path);
    log::info("The trace is ", path, "; chrome://tracing shows it");
  }

  Params params_;
  int64_t done_ = 0;
  bool running_ = false;
};
SEG_REGISTER(Hook, ProfilerHook);

}  // namespace seg
