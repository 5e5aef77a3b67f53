/// Draws what runs recorded.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "runners/visualization/plot.hpp"
#include "runners/visualization/run_log.hpp"

namespace seg {

struct CurveOptions {
  /// Weight of the past in the lines of training values; not given: chosen by their number.
  std::optional<double> smoothing;
  bool log_scale = false;
};

/// A panel a key and a curve a run. Metrics numbered by epochs stand at the last step of theirs.
std::vector<PlotPanel> curve_panels(const std::vector<RunLog>& runs,
                                    const std::vector<std::string>& keys,
                                    const CurveOptions& options = {});

/// Draws the usual values of a run and its earlier launches into <work_dir>/curves.png.
/// \return false where nothing is recorded in files.
/// \throws DataError, FileError
bool write_run_curves(const std::string& work_dir);

}  // namespace seg
