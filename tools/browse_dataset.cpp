/// Pictures of augmented samples beside their labels, as the model gets them.
#include <filesystem>

#include "runners/start/run_config.hpp"
#include "segcore/data/band_statistics.hpp"
#include "segcore/data/dataset_check.hpp"
#include "segcore/evaluation/class_legend.hpp"
#include "segcore/evaluation/pictures.hpp"
#include "segcore/image/image_io.hpp"
#include "tools/common/command_line.hpp"
#include "tools/common/help.hpp"

namespace {

struct BrowseArguments {
  std::string config, split = "train", out;
  int64_t num = 16;
  int64_t epoch = 0;
  bool check = false, statistics = false;
  std::vector<std::string> overrides;
};

/// "0003_aachen_000000.png"; augmentations of one image have a number more.
std::string browse_name(const seg::PackedSample& sample, size_t variant, size_t variants) {
  std::string number = std::to_string(sample.meta.index);
  if (number.size() < 4) number.insert(0, 4 - number.size(), '0');
  const std::string stem = std::filesystem::path(sample.meta.img_path).stem().string();
  return number + "_" + stem + (variants > 1 ? "_" + std::to_string(variant) : "") + ".png";
}

int browse(const BrowseArguments& arguments) {
  const seg::RunConfig config = seg::load_run_config(arguments.config, arguments.overrides);
  const auto& loader = arguments.split == "train" ? config.train_dataloader
                       : arguments.split == "val" ? config.val_dataloader
                                                  : config.test_dataloader;
  if (!loader) {
    throw seg::DataError(seg::text(arguments.config, ": there is no ", arguments.split,
                                   "_dataloader, of which --split ", arguments.split,
                                   " shows samples"));
  }
  const auto dataset = loader->dataset.build();
  if (arguments.check) {
    std::cout << seg::check_dataset(*dataset, arguments.split,
                                    {.annotations = seg::DatasetCheckParams::kAll,
                                     .pairs = seg::DatasetCheckParams::kAll})
              << std::endl;
  }
  if (arguments.statistics) {
    const auto found = seg::band_statistics(*dataset, dataset->size());
    std::cout << "# of " << found.images << (found.images == 1 ? " image" : " images")
              << ", for model.data_preprocessor\n"
              << seg::preprocessor_yaml(found) << std::endl;
    return 0;
  }
  const std::string out = arguments.out.empty()
                              ? "work_dirs/" + config.stem() + "/browse_" + arguments.split
                              : arguments.out;
  const auto seed = static_cast<uint64_t>(config.randomness.seed.value_or(0));
  const seg::DatasetMeta& meta = dataset->meta();
  const auto palette =
      seg::palette_or_default(meta.palette, static_cast<int64_t>(meta.classes.size()));
  if (!meta.classes.empty()) {
    seg::write_png(
        (std::filesystem::path(out) / "classes.png").string(),
        seg::class_legend(palette, meta.classes, static_cast<int64_t>(meta.classes.size())));
  }
  const size_t count = std::min(dataset->size(), static_cast<size_t>(arguments.num));
  const auto unusable =
      arguments.split == "train" ? seg::Unusable::kReplaced : seg::Unusable::kLeftOut;
  size_t written = 0;
  for (size_t i = 0; i < count; ++i) {
    const size_t index = i * dataset->size() / count;  // spread over the data set
    const auto samples =
        dataset->get(index, seed, static_cast<uint64_t>(arguments.epoch), unusable);
    for (size_t variant = 0; variant < samples.size(); ++variant) {
      const seg::PackedSample& sample = samples[variant];
      std::vector<cv::Mat> pictures{seg::displayable(sample.image)};
      if (sample.labels.defined()) {
        pictures.push_back(seg::overlay(pictures[0], sample.labels, palette, 0.5));
        pictures.push_back(seg::colour_map(sample.labels, palette));
      }
      seg::write_png(
          (std::filesystem::path(out) / browse_name(sample, variant, samples.size())).string(),
          seg::side_by_side(pictures));
      ++written;
    }
  }
  std::cout << written << " pictures of " << count << " of " << dataset->size()
            << " samples are in " << out << std::endl;
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  seg::run_main(
      argc, argv,
      "Writes pictures of augmented samples: image, labels over the image, labels; and "
      "classes.png, what the colours mean.",
      [](CLI::App& app) {
        seg::add_help(app, {.example = "tools/browse_dataset configs/quickstart.yaml --num 4 --out "
                                       "work_dirs/first/samples",
                            .exit_codes = {}});
        auto arguments = std::make_shared<BrowseArguments>();
        app.add_option("config", arguments->config, "configuration file")->required();
        app.add_option("--split", arguments->split, "train, val or test (default: train)")
            ->type_name("NAME")
            ->check(seg::known_word({"train", "val", "test"}));
        app.add_option("--num", arguments->num,
                       "samples, spread evenly over the data set (default: 16)")
            ->type_name("N")
            ->check(seg::whole_number(1));
        app.add_option("--epoch", arguments->epoch, "augment as in this epoch (default: 0)")
            ->type_name("N")
            ->check(seg::whole_number(0));
        app.add_option("--out", arguments->out,
                       "folder of the pictures (default: work_dirs/<config>/browse_<split>)")
            ->type_name("DIR");
        app.add_flag("--check", arguments->check,
                     "also looks for missing files, reads all images and counts the labels of all "
                     "annotations");
        app.add_flag("--statistics", arguments->statistics,
                     "only prints mean and standard deviation of each band over all images as they "
                     "are loaded, for the data preprocessor");
        seg::add_cfg_options(app, arguments->overrides);
        return [arguments] { return browse(*arguments); };
      });
}
