/// Tests the weights of a checkpoint on the test set of a configuration.
#include "runners/evaluate/run_palette.hpp"
#include "runners/evaluate/test_run.hpp"
#include "runners/start/run_config.hpp"
#include "tools/common/command_line.hpp"
#include "tools/common/help.hpp"
#include "tools/common/local_launch.hpp"

namespace {

struct TestArguments {
  std::string config, checkpoint;
  seg::TestOptions options;
  std::vector<std::string> palette, overrides;
  std::optional<std::string> nproc;
};

/// What can be written under this name.
/// \param words  the suffixes as the message names them.
CLI::Validator file_with_suffix(const std::vector<std::string>& suffixes,
                                const std::string& words) {
  return {[=](std::string& path) {
            for (const std::string& suffix : suffixes) {
              if (path.ends_with(suffix)) return std::string();
            }
            return seg::text("ends in ", words, ", got '", path, "'");
          },
          ""};
}

int test(TestArguments& arguments, const std::vector<std::string>& words) {
  seg::TestOptions& options = arguments.options;
  const auto launch = seg::local_launch(arguments.nproc, options.launcher, words);
  options.palette = seg::palette_option(arguments.palette);
  const seg::RunConfig config =
      seg::load_run_config(arguments.config, arguments.overrides,
                           [&](seg::Config& tree) { seg::apply_options(tree, options); });
  if (launch) return seg::launch_processes(*launch);
  seg::run_test(config, arguments.checkpoint, options);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  seg::run_main(
      argc, argv, "Tests the weights of a checkpoint on the test set of a configuration.",
      [argc, argv](CLI::App& app) {
        seg::add_help(app,
                      {.example = "tools/test configs/quickstart.yaml work_dirs/first/iter_800.pth "
                                  "--show-dir work_dirs/first/pictures",
                       .exit_codes = {3, 20, 22}});
        auto arguments = std::make_shared<TestArguments>();
        app.add_option("config", arguments->config, "configuration file")->required();
        app.add_option("checkpoint", arguments->checkpoint,
                       "weights to test; 'members' for those that an ensemble's config names")
            ->required();
        app.add_option("--split", arguments->options.split,
                       "test the images of train_dataloader or val_dataloader, loaded as those of "
                       "the test set are")
            ->type_name("SPLIT")
            ->check(seg::known_word({"train", "val", "test"}));
        app.add_option("--work-dir", arguments->options.work_dir,
                       "folder of the log and the metrics (default: as in training)")
            ->type_name("DIR");
        app.add_option("--out", arguments->options.out,
                       "write the class ids of each image as a PNG here, with a palette that "
                       "shows them in colour; as a GeoTIFF where the image has a georeference")
            ->type_name("DIR");
        app.add_option("--out-probs", arguments->options.out_probs,
                       "write the probabilities of each image here, of its size and in half "
                       "precision: one file that can be mapped into memory, from which "
                       "LoadSoftPredictions takes them")
            ->type_name("FILE.safetensors")
            ->check(file_with_suffix({".safetensors"}, ".safetensors"));
        app.add_option("--per-image", arguments->options.per_image,
                       "write mIoU, accuracy and the IoU of each class of every image here")
            ->type_name("FILE.csv");
        app.add_option("--confusion", arguments->options.confusion,
                       "write the confusion matrix here: pixel counts as .csv, or a picture in "
                       "percent of each true class")
            ->type_name("FILE")
            ->check(file_with_suffix({".csv", ".png", ".jpg", ".jpeg", ".tif", ".tiff"},
                                     ".csv, .png, .jpg or .tif"));
        app.add_option("--opacity", arguments->options.opacity,
                       "of the colours in pictures, 0 to 1 (default: visualizer.alpha, 0.8)")
            ->type_name("A")
            ->check(seg::number_between(0, 1));
        seg::add_palette(app, arguments->palette);
        app.add_option("--show-dir", arguments->options.show_dir,
                       "write image, truth, prediction and wrong pixels of each image here, and "
                       "index.html, which shows them with the worst first")
            ->type_name("DIR");
        seg::add_device(app, arguments->options.device);
        app.add_flag("--tta", arguments->options.tta,
                     "average the predictions for the augmentations of tta_pipeline");
        seg::add_quiet(app);
        seg::add_nproc(app, arguments->nproc);
        seg::add_launcher(app, arguments->options.launcher);
        seg::add_cfg_options(app, arguments->overrides);
        return [arguments, words = std::vector<std::string>(argv, argv + argc)] {
          return test(*arguments, words);
        };
      });
}
