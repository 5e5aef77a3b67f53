/// Reads the values that runs recorded in scalars.json.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace seg {

/// One recorded value of one name over the steps of a run.
struct Series {
  std::string key;
  bool training = false;  ///< of training steps; else of validations
  bool by_epoch = false;  ///< steps are epochs, as of metrics in training by epochs
  std::vector<std::pair<int64_t, double>> points;  ///< step, value; steps rise
};

struct RunLog {
  std::string name;  ///< as given, without the part that all names share
  std::string path;
  std::vector<Series> series;    ///< in order of first appearance
  std::vector<int64_t> resumes;  ///< the last steps that launches before a resumed one recorded
  int64_t epoch_steps = 0;       ///< training steps of an epoch, as far as rows show it; 0: unknown
  const Series* find(const std::string& key) const;
};

/// \param path  a work dir, the folder of one launch, its vis_data, or a scalars.json. The launches
///              of a work dir are joined: a resumed one replaces what the earlier ones did beyond
///              the step that it continued from.
/// \throws DataError if there is none, it is empty, or a line is damaged.
RunLog read_run_log(const std::string& path);

/// Short, distinct names for the runs.
void name_runs(std::vector<RunLog>& runs);

/// \throws UsageError for a key that no run has, with the nearest.
void check_keys(const std::vector<RunLog>& runs, const std::vector<std::string>& keys);

/// What is drawn where no keys are given: the training loss and mIoU as far as they are recorded,
/// else the first value.
std::vector<std::string> usual_keys(const std::vector<RunLog>& runs);

/// "run,step,key1,key2", one row a run and step that has any of the keys.
std::string curves_csv(const std::vector<RunLog>& runs, const std::vector<std::string>& keys);

/// A line a run and key: last, lowest and highest value with their steps.
std::string curves_summary(const std::vector<RunLog>& runs, const std::vector<std::string>& keys);

}  // namespace seg
