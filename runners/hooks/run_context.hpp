/// What hooks see of a run, and may change in it.
#pragma once
#include <c10/core/Device.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runners/log/scalars.hpp"
#include "segcore/data/sample.hpp"
#include "segcore/io/value.hpp"

namespace seg {

struct RunConfig;
struct DatasetMeta;
class Communicator;
class DataLoader;
class Dataset;
class OptimWrapper;
class ParamScheduler;
class Segmentor;
class Visualizer;

enum class Phase { kTrain, kVal, kTest };
/// "train", "val" or "test".
const char* phase_name(Phase phase);

struct HookEntry;

/// The state of a run. Pointers are borrowed from the runner; those of training are null in a test.
struct RunContext {
  const RunConfig* config = nullptr;
  Segmentor* model = nullptr;
  OptimWrapper* optimizer = nullptr;
  std::vector<std::unique_ptr<ParamScheduler>>* schedulers = nullptr;
  Visualizer* visualizer = nullptr;
  Communicator* communicator = nullptr;
  DataLoader* train_loader = nullptr;
  const Dataset* eval_dataset = nullptr;  ///< of the validation or test that is going on
  c10::Device device = c10::kCPU;

  std::string work_dir;         ///< work_dirs/<stem>
  std::string timestamp;        ///< "20261121_032601", of this launch
  std::string log_dir;          ///< work_dir/timestamp
  std::string experiment_name;  ///< <stem>_<timestamp>
  uint64_t seed = 0;

  Phase phase = Phase::kTrain;
  bool by_epoch = false;
  int64_t iter = 0;  ///< training steps done; in after_iter the one just made is counted
  int64_t max_iters = 0;
  int64_t epoch = 0;  ///< epochs done; stays 0 in training by iterations
  int64_t max_epochs = 1;
  int64_t epoch_length = 0;  ///< training batches in one pass over the data
  int64_t batch_index = 0;   ///< of the current batch in this epoch, validation or test, from 0
  int64_t batch_count = 0;   ///< batches of this epoch, validation or test
  bool end_of_epoch = false;

  /// Of the training step just made: the sum of the losses, then each value.
  std::vector<std::pair<std::string, at::Tensor>> losses;
  at::Tensor grad_norm;  ///< undefined where none was computed

  const Batch* batch = nullptr;                          ///< of the current step
  const std::vector<at::Tensor>* predictions = nullptr;  ///< class ids, of a validation step

  ScalarHistory train_log, val_log, test_log;
  double eta_s = -1;         ///< seconds left of the loop that is going on; negative where unknown
  Scalars metrics;           ///< of the validation just made, those of single classes last
  std::string metric_table;  ///< of the classes
  /// What the metrics of a validation will be called; empty where that cannot be known.
  std::vector<std::string> metric_names;
  /// What MMEngine's message hub calls so: plain values, kept in checkpoints.
  Value runtime_info = Value::dict();

  /// A hook that sets it ends training after this step or validation.
  bool stop_training = false;
  /// A signal came: the validation that is going on is given up, its metrics are not there.
  bool interrupted = false;
  /// A validation follows the training step just made.
  bool validation_due = false;
  /// The generators' states at the beginning of a validation, so that one that was given up leaves
  /// no trace in a checkpoint; undefined outside.
  at::Tensor rng_before_val;

  ScalarHistory& log() {
    return phase == Phase::kTrain ? train_log : phase == Phase::kVal ? val_log : test_log;
  }
  bool is_main() const;
  int64_t last_saved_iter = -1;             ///< of the newest checkpoint that a run can go on from
  std::vector<HookEntry>* hooks = nullptr;  ///< for whoever writes a checkpoint
};

}  // namespace seg
