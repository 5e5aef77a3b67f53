/// Tests a model of an ensemble in a process of its own, once.
#pragma once
#include <string>
#include <utility>
#include <vector>

namespace seg {

struct EnsembleTest {
  std::string name;        ///< of the model
  std::string config;      ///< its file
  std::string checkpoint;  ///< a file, or "members"
  std::string split = "test";
  std::string probabilities;            ///< file that they are stored in; empty: none
  std::vector<std::string> newer_than;  ///< files that its result must be newer than
  std::vector<std::string> more;        ///< further arguments of tools/test
};

/// Values by their names, in the order of the test.
using TestMetrics = std::vector<std::pair<std::string, double>>;

/// Where tests of an ensemble are kept: <folder>/<name>/<split> is the work dir of one, with the
/// class ids of its images in predictions/ and its metrics in metrics.json, which is written last.
class TestStage {
 public:
  explicit TestStage(std::string folder) : folder_(std::move(folder)) {}
  /// Tests unless that was done before, and nothing is newer that the result depends on.
  /// \throws DataError with the last error line of a test that failed; RunEnded with 20 where a
  ///         signal stopped it.
  void run(const EnsembleTest& test) const;
  TestMetrics metrics(const std::string& name) const;
  /// The folder of the class ids that a model predicted for the test set.
  std::string predictions_of(const std::string& name) const;

 private:
  bool done(const EnsembleTest& test) const;
  std::string work_dir(const std::string& name, const std::string& split) const;

  std::string folder_;
};

}  // namespace seg
