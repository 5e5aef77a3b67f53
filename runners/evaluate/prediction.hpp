/// Predicts images that belong to no data set, for tools/predict.
#pragma once
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runners/start/run_config.hpp"
#include "segcore/data/palette.hpp"

namespace seg {

struct PredictOptions {
  std::vector<std::string> inputs;  ///< images, and folders searched with their subfolders
  std::string out;  ///< folder; an image of a subfolder goes into one of the same name
  double opacity = 0.5;
  Palette palette;                      ///< of `--palette`; empty: as the config has it
  std::optional<std::string> device;    ///< as env_cfg.device
  std::optional<std::string> launcher;  ///< of the processes that share the images
  /// Height and width of a sliding window; 0: images are predicted as a whole. Not given: as
  /// model.test_cfg says, but images of more than 4 million pixels always by a window.
  std::optional<Size2> window;
  /// Side of the tiles that TIFF files are predicted by. Not given: 1024, or a window where that is
  /// larger, for rasters of more than 64 million pixels alone.
  std::optional<int64_t> tile;
  std::optional<int64_t> overlap;  ///< of neighbouring tiles; not given: an eighth of their side

  int64_t overlap_of(int64_t side) const { return overlap.value_or(side / 8); }
};

/// Sides of tiles unless the user gives one or a window is larger.
inline constexpr int64_t kPredictTile = 1024;

/// Writes the options into the resolved tree of a config, before it is read and checked.
void apply_options(Config& tree, const PredictOptions& options);

/// What became of each image. Of several processes the first knows it of all, the others nothing.
struct PredictReport {
  std::vector<std::string> done;                            ///< paths of the images
  std::vector<std::pair<std::string, std::string>> failed;  ///< path and reason
};

/// For each image writes <out>/<stem>.png, the classes in colour over the image, and
/// <out>/<stem>_ids.png, the class ids; and <out>/classes.png, what the colours mean. The class ids
/// of TIFF files that have a georeference, or are predicted by tiles, are in <out>/<stem>_ids.tif,
/// with the georeference. Of a model
/// that estimates depth <out>/<stem>.png, the depth in colour beside the image, and
/// <out>/<stem>_depth.png, 16 bits, times 1000: millimetres where depth is in metres. The images go
/// through the pipeline of the test set without its labels, or where there is none are only loaded;
/// one that cannot be read does not keep the others from being done. \throws ConfigError,
/// CheckpointError, WeightsMismatch; DataError where there is no image at all.
PredictReport predict_images(const RunConfig& config, const std::string& checkpoint,
                             const PredictOptions& options);

}  // namespace seg
