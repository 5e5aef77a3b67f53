/// Predicts images without labels and writes the predictions.
#include <algorithm>
#include <optional>

#include "registry/log.hpp"
#include "runners/evaluate/prediction.hpp"
#include "runners/evaluate/run_palette.hpp"
#include "tools/common/command_line.hpp"
#include "tools/common/help.hpp"
#include "tools/common/local_launch.hpp"

namespace {

struct PredictArguments {
  std::string config, checkpoint;
  seg::PredictOptions options;
  std::vector<std::string> palette, overrides;
  std::vector<int64_t> window;
  std::optional<std::string> nproc;
};

/// `--window 512 768`, `--window 512` for both sides, `--window 0` for none.
std::optional<seg::Size2> window_of(const std::vector<int64_t>& given) {
  if (given.empty()) return std::nullopt;
  if (given.size() == 2 && std::min(given[0], given[1]) < 1) {
    throw seg::UsageError(
        seg::text("--window takes a height and a width of at least 1, or 0 alone, "
                  "got ",
                  seg::join(given, " ")));
  }
  return seg::Size2(given.front(), given.back());
}

/// Something is to be left of a tile without its overlap.
void check_tiles(const seg::PredictOptions& options) {
  constexpr int64_t kLeast = 16;  // tiles of TIFF files have such sides
  const int64_t tile = options.tile.value_or(seg::kPredictTile);
  const int64_t overlap = options.overlap_of(tile);
  if (tile - overlap >= kLeast) return;
  throw seg::UsageError(seg::text("--tile ", tile, " with --overlap ", overlap,
                                  " leaves less than ", kLeast, " pixels of each tile"));
}

int predict(const PredictArguments& arguments, const std::vector<std::string>& words) {
  seg::PredictOptions options = arguments.options;
  const auto launch = seg::local_launch(arguments.nproc, options.launcher, words);
  options.window = window_of(arguments.window);
  check_tiles(options);
  options.palette = seg::palette_option(arguments.palette);
  const seg::RunConfig config =
      seg::load_run_config(arguments.config, arguments.overrides,
                           [&](seg::Config& tree) { seg::apply_options(tree, options); });
  if (launch) return seg::launch_processes(*launch);
  const seg::PredictReport report = seg::predict_images(config, arguments.checkpoint, options);
  seg::log::flush();
  if (report.failed.empty()) return 0;
  std::cerr << "error: " << report.failed.size() << " of "
            << report.done.size() + report.failed.size() << " images could not be predicted:\n";
  for (const auto& [path, reason] : report.failed) {
    std::cerr << "  " << (reason.find(path) == std::string::npos ? path + ": " : "") << reason
              << "\n";
  }
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  seg::run_main(
      argc, argv,
      "Predicts images without labels. Writes OUT/<stem>.png, the classes in colour over the "
      "image, and OUT/<stem>_ids.png, the class ids (0 is the first class) with a palette; and "
      "OUT/classes.png, what the colours mean. Of a model that estimates depth, it shows that "
      "beside the image, and writes it times 1000 into OUT/<stem>_depth.png. The class ids of TIFF "
      "files with a georeference are in OUT/<stem>_ids.tif, which has it, too. Images of "
      "subfolders "
      "go into subfolders of OUT. Images of more than 4 million pixels are predicted "
      "by a sliding window. Unreadable images are listed at the end, and the exit code is then 1; "
      "all others are predicted.",
      [argc, argv](CLI::App& app) {
        seg::add_help(
            app, {.example = "tools/predict configs/quickstart.yaml work_dirs/first/iter_800.pth "
                             "docs --out work_dirs/first/predictions",
                  .exit_codes = {3, 22}});
        auto arguments = std::make_shared<PredictArguments>();
        app.add_option("config", arguments->config, "configuration file")->required();
        app.add_option("checkpoint", arguments->checkpoint,
                       "weights; 'members' for those that an ensemble's config names")
            ->required();
        app.add_option("input", arguments->options.inputs, "images, or folders of images")
            ->required()
            ->expected(1, -1);
        app.add_option("--out", arguments->options.out, "folder for the pictures")
            ->type_name("DIR")
            ->required();
        app.add_option("--opacity", arguments->options.opacity,
                       "of the colours over the image, 0 to 1 (default 0.5)")
            ->type_name("A")
            ->check(seg::number_between(0, 1));
        seg::add_palette(app, arguments->palette);
        app.add_option(
               "--window", arguments->window,
               "predict by windows of this size, which overlap by a third; one number for "
               "both sides, 0 for whole images (default: as set in model.test_cfg, but images "
               "of more than 4 million pixels by windows of the size of training)")
            ->type_name("H W")
            ->expected(1, 2)
            ->check(seg::whole_number(0));
        app.add_option("--tile", arguments->options.tile,
                       "predict TIFF files by tiles of this side and write the class ids of each "
                       "as it is done, so that a raster may be larger than memory (default: 1024, "
                       "for those of more than 64 million pixels)")
            ->type_name("N")
            ->check(seg::whole_number(16));
        app.add_option("--overlap", arguments->options.overlap,
                       "how far tiles overlap, half of which is dropped at each side (default: an "
                       "eighth of the tile)")
            ->type_name("N")
            ->check(seg::whole_number(0));
        seg::add_device(app, arguments->options.device);
        seg::add_nproc(app, arguments->nproc);
        seg::add_launcher(app, arguments->options.launcher);
        seg::add_cfg_options(app, arguments->overrides);
        return [arguments, words = std::vector<std::string>(argv, argv + argc)] {
          return predict(*arguments, words);
        };
      });
}
