/// A whole configuration as C++ types, one member per top-level key.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "registry/registry.hpp"
#include "registry/yaml.hpp"
#include "runners/evaluate/eval_loop.hpp"
#include "runners/hooks/hook.hpp"
#include "runners/log/log_processor.hpp"
#include "runners/optim/optim_wrapper.hpp"
#include "runners/optim/param_scheduler.hpp"
#include "runners/train/length.hpp"
#include "runners/visualization/visualizer.hpp"
#include "segcore/data/loader.hpp"
#include "segcore/data/transform.hpp"
#include "segcore/evaluation/metric.hpp"
#include "segcore/models/segmentor.hpp"

namespace seg {

struct RandomnessParams {
  std::optional<int64_t> seed;
  bool deterministic = false;
  bool diff_rank_seed = false;
  static Schema<RandomnessParams> schema();
};

struct DistParams {
  std::string backend = "nccl";
  int64_t port = 29500;
  std::optional<int64_t> timeout;
  int64_t heartbeat_timeout = 45;
  static Schema<DistParams> schema();
};

struct MultiProcessingParams {
  std::string mp_start_method = "fork";
  int64_t opencv_num_threads = 0;
  static Schema<MultiProcessingParams> schema();
};

struct EnvParams {
  bool cudnn_benchmark = false;
  MultiProcessingParams mp_cfg;
  DistParams dist_cfg;
  std::string device = "auto";
  bool allow_tf32 = false;
  std::string memory_format = "auto";
  std::optional<int64_t> num_threads;
  static Schema<EnvParams> schema();
};

/// How the processes of a run train one model.
struct ModelWrapperParams {
  std::optional<std::string> type;
  std::optional<bool> find_unused_parameters;
  bool static_graph = false;
  std::string gradient_dtype = "float32";
  static Schema<ModelWrapperParams> schema();
};

struct AutoScaleLrParams {
  bool enable = false;
  int64_t base_batch_size = 16;
  static Schema<AutoScaleLrParams> schema();
};

struct TtaModelParams {
  static Schema<TtaModelParams> schema();
};

/// The top level of a configuration, read and checked; nothing is built.
struct RunConfig {
  Spec<Segmentor> model;
  std::optional<DataLoaderParams> train_dataloader, val_dataloader, test_dataloader;
  std::optional<Spec<OptimWrapper>> optim_wrapper;
  std::optional<OneOrMany<Spec<ParamScheduler>>> param_scheduler;
  std::optional<Spec<TrainLength>> train_cfg;
  std::optional<Spec<EvalLoop>> val_cfg, test_cfg;
  std::optional<OneOrMany<Spec<Metric>>> val_evaluator, test_evaluator;
  /// By role; null switches a role off. Those left out take MMEngine's defaults.
  std::map<std::string, std::optional<Spec<Hook>>> default_hooks;
  std::optional<std::vector<Spec<Hook>>> custom_hooks;
  EnvParams env_cfg;
  std::optional<Spec<Visualizer>> visualizer;
  LogProcessorParams log_processor;
  std::string log_level = "INFO";
  std::vector<std::string> freeze;
  std::optional<std::string> load_from;
  bool resume = false;
  bool reset_schedule = false;
  std::optional<std::string> work_dir;
  RandomnessParams randomness;
  std::optional<TtaModelParams> tta_model;
  std::optional<std::vector<Spec<Transform>>> tta_pipeline;
  std::string launcher = "none";
  std::optional<AutoScaleLrParams> auto_scale_lr;
  std::optional<int64_t> global_batch;
  std::optional<std::string> experiment_name;
  bool find_unused_parameters = false;
  std::optional<ModelWrapperParams> model_wrapper_cfg;

  /// The file it came from, and the resolved tree with MMEngine's implied types filled in: what a
  /// run writes into its work dir.
  std::string path;
  Config tree;

  /// The name of the file without folder and extension: work_dirs/<stem>, <stem>.yaml.
  std::string stem() const;
  /// Folder of the outputs: `work_dir`, else ./work_dirs/<stem>.
  std::string output_folder() const;
  static Schema<RunConfig> schema();
};

/// Resolves a file with its bases and overrides ("a.b=1"), reads and checks all of it; no tensor is
/// made and no data read. Warnings are logged.
/// \throws ConfigError with every error found.
/// \param edit  changes the resolved tree before it is read, for options of the command line.
RunConfig load_run_config(const std::string& path, const std::vector<std::string>& overrides = {},
                          const std::function<void(Config&)>& edit = {});

/// The same for a tree that is resolved already. `path` names the run.
/// \throws ConfigError with every error found.
RunConfig read_run_config(Config tree, const std::string& path, Diagnostics& problems);

/// The top-level keys with a meaning; all others are variables.
const std::vector<std::string>& run_config_keys();
/// Their documentation, for tools/schema.
std::vector<OptionDoc> run_config_docs();

}  // namespace seg
