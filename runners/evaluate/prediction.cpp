#include "runners/evaluate/prediction.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <opencv2/core.hpp>
#include <set>

#include "registry/log.hpp"
#include "runners/dist/data_errors.hpp"
#include "runners/dist/gather_texts.hpp"
#include "runners/evaluate/image_size.hpp"
#include "runners/evaluate/input_errors.hpp"
#include "runners/evaluate/raster_prediction.hpp"
#include "runners/evaluate/run_palette.hpp"
#include "runners/log/log_processor.hpp"
#include "runners/log/progress_bar.hpp"
#include "runners/start/class_lists.hpp"
#include "runners/start/device.hpp"
#include "runners/start/ensemble_config.hpp"
#include "runners/start/environment.hpp"
#include "runners/start/options.hpp"
#include "runners/start/processes.hpp"
#include "segcore/data/dataset_spec.hpp"
#include "segcore/data/folder_walk.hpp"
#include "segcore/data/pipeline.hpp"
#include "segcore/evaluation/class_legend.hpp"
#include "segcore/evaluation/depth_picture.hpp"
#include "segcore/evaluation/pictures.hpp"
#include "segcore/image/image_io.hpp"
#include "segcore/io/atomic_file.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/io/model_zoo.hpp"
#include "segcore/io/named_weights.hpp"
#include "segcore/torch.hpp"

namespace fs = std::filesystem;

namespace seg {
namespace {

/// Above it, in bytes, the logits of a whole image are not held at once.
constexpr int64_t kPredictMostLogits = int64_t{1} << 28;
/// Larger images are predicted by windows unless the user asks for whole ones: models are trained
/// on crops, and their memory, and for attention their time, grows without bounds.
constexpr int64_t kPredictMostPixels = 4'000'000;

/// Rasters with more pixels are predicted by tiles unless the user asks for it: as a whole they,
/// and what is computed of them, take gigabytes.
constexpr int64_t kPredictMostRaster = 64'000'000;

/// The data set that images are read for, inside of those that only wrap one.
std::optional<Spec<Dataset>> predict_dataset(const RunConfig& config) {
  for (const auto* loader : {&config.test_dataloader, &config.val_dataloader}) {
    if (*loader) return innermost_dataset((*loader)->dataset);
  }
  return std::nullopt;
}

SplitPipeline predict_pipeline(const RunConfig& config) {
  std::vector<Spec<Transform>> steps;
  if (const auto dataset = predict_dataset(config)) steps = dataset->facts().pipeline;
  // Many configs keep the pipeline in this variable.
  const auto* variable = config.tree.find("test_pipeline");
  if (steps.empty() && variable && variable->value.is_list()) {
    Diagnostics problems;
    auto read = Convert<std::vector<Spec<Transform>>>::from(variable->value, "pipeline", problems);
    if (!read) throw ConfigError(problems);
    steps = std::move(*read);
  }
  if (steps.empty()) {
    log::info("The configuration has no test pipeline: images are predicted as they are");
    steps = {Spec<Transform>::of("{type: LoadImageFromFile}"),
             Spec<Transform>::of("{type: PackSegInputs}")};
  }
  return split_after_loading(steps);
}

/// As `tools/test` has them.
Palette predict_palette(const RunConfig& config, const PredictOptions& options,
                        const Value& checkpoint, int64_t classes) {
  std::unique_ptr<Dataset> data;
  if (const auto dataset = predict_dataset(config)) {
    try {
      // Its files may not be here.
      data = lazy_dataset(*dataset).build();
    } catch (const DataError& e) {
      log::debug("no palette from the data set: ", e.what());
    }
  }
  return run_palette(options.palette, data ? &data->meta() : nullptr, checkpoint, classes);
}

ProgressFacts predict_progress(size_t done, size_t total, std::chrono::duration<double> spent) {
  const double each_s = spent.count() / static_cast<double>(done);
  return {.what = "predict",
          .done = static_cast<int64_t>(done),
          .total = static_cast<int64_t>(total),
          .facts = {"eta " + duration_text(each_s * static_cast<double>(total - done)),
                    rate_text(1 / std::max(each_s, 1e-6))}};
}

/// The files written for an image.
struct PredictPictures {
  PredictPictures(const fs::path& stem, const std::string& ending)
      : shown(fitting_path(stem.string(), ".png")), values(fitting_path(stem.string(), ending)) {}
  fs::path shown;
  fs::path values;  ///< class ids or depth
};

/// How a raster is predicted.
struct PredictRaster {
  RasterSource source;
  bool by_tiles = false;
};

/// An image, and its name below the folder of the pictures.
struct FoundImage {
  fs::path path, name;
  std::optional<PredictRaster> raster = {};
  std::string ending = {};  ///< of the file with its values
};

/// The images of a folder, or the image itself.
std::vector<FoundImage> images_at(const std::string& input, const std::string& out) {
  if (!fs::exists(input)) throw DataError(text(input, ": there is no such file or folder"));
  if (!fs::is_directory(input)) return {{input, fs::path(input).filename()}};
  std::vector<FoundImage> found;
  // The pictures of an earlier call are no images to predict. Not by where links lead: the names
  // are those that were found.
  for (const auto& name : walk_folder(input, out)) {
    if (has_picture_suffix(name)) found.push_back({fs::path(input) / name, name});
  }
  if (found.empty()) {
    throw DataError(text(input, ": the folder holds no images (", picture_suffixes(), ")"));
  }
  return found;
}

/// Each image with its pictures.
struct PredictInput {
  fs::path path;
  PredictPictures pictures;
  std::optional<PredictRaster> raster;  ///< of a TIFF file whose class ids are a raster, too
};
using PredictInputs = std::vector<PredictInput>;

/// Nothing for images that are no rasters, or are predicted like any other.
std::optional<PredictRaster> predict_raster(const fs::path& path, const PredictOptions& options) {
  try {
    const auto source = raster_source(path.string());
    if (!source) return std::nullopt;
    const ImageInfo& info = source->info;
    const bool by_tiles =
        options.tile || (info.orientation == 1 && info.width * info.height > kPredictMostRaster);
    if (!by_tiles && source->georeference.empty()) return std::nullopt;
    return PredictRaster{*source, by_tiles};
  } catch (const DataError&) {
    return std::nullopt;  // reading the image reports it
  }
}

/// \param depth  the model estimates depth.
PredictInputs predict_inputs(const PredictOptions& options, bool depth) {
  std::vector<FoundImage> found;
  std::set<fs::path> given, inputs;
  for (const std::string& input : options.inputs) {
    for (FoundImage& image : images_at(input, options.out)) {
      // A folder and an image of it: once. Links are images of their own.
      if (!given.insert(fs::absolute(image.path).lexically_normal()).second) continue;
      inputs.insert(fs::weakly_canonical(image.path));
      if (!depth) image.raster = predict_raster(image.path, options);
      image.ending = depth ? "_depth.png" : image.raster ? "_ids.tif" : "_ids.png";
      found.push_back(std::move(image));
    }
  }
  const auto target = [&](const FoundImage& image, bool whole_name) {
    fs::path name = image.name;
    if (!whole_name) name.replace_extension();
    return options.out / name;
  };
  std::map<fs::path, int> written;
  for (const FoundImage& image : found) {
    const PredictPictures pictures(target(image, false), image.ending);
    ++written[pictures.shown];
    ++written[pictures.values];
  }
  PredictInputs result;
  std::map<fs::path, fs::path> owners;
  for (const FoundImage& image : found) {
    // a.jpg beside a.png: both keep their suffix; and so does a_ids.png beside a.png.
    const bool shared = written.at(PredictPictures(target(image, false), image.ending).shown) > 1;
    const PredictPictures pictures(target(image, shared), image.ending);
    for (const fs::path& picture : {pictures.shown, pictures.values}) {
      if (inputs.count(fs::weakly_canonical(picture)) > 0) {
        throw DataError(text(picture.string(), " is an image to predict, which the prediction of ",
                             image.path.string(),
                             " would overwrite: give another folder as --out"));
      }
      const auto [owner, fresh] = owners.emplace(picture, image.path);
      if (!fresh) {
        throw DataError(text("the predictions of ", owner->second.string(), " and ",
                             image.path.string(), " would both be ", picture.string(),
                             ": give a folder that holds both, whose subfolders are kept, or "
                             "predict them by two commands"));
      }
    }
    result.push_back({image.path, pictures, image.raster});
  }
  return result;
}

/// Tells the colours' names in <out>/classes.png, unless a picture has that name.
void write_legend(const RunConfig& config, const PredictOptions& options,
                  const PredictInputs& inputs, const Value& checkpoint, const Palette& palette,
                  int64_t classes) {
  const fs::path path = fs::path(options.out) / "classes.png";
  const bool taken = std::any_of(inputs.begin(), inputs.end(), [&](const auto& input) {
    return input.pictures.shown == path || input.pictures.values == path;
  });
  if (taken) return;
  const auto dataset = predict_dataset(config);
  std::vector<std::string> names;
  if (dataset) names = dataset->facts().classes;
  if (names.empty()) names = saved_classes(checkpoint);
  write_png(path.string(), class_legend(palette, names, classes));
}

/// Predicts images after the pipeline, whole or by windows.
class Predictor {
 public:
  Predictor(Segmentor& model, c10::Device device, const RunConfig& config,
            const std::optional<Size2>& asked)
      : model_(model), device_(device), asked_(asked) {
    const TestCfg& test = model.test_cfg();
    slides_ = test.slides();
    crop_ = asked ? *asked : window_size(model, config.tree);
    // Windows overlap by a third, as in the published configs for ADE20K.
    stride_ = {std::max<int64_t>(1, crop_.h * 2 / 3), std::max<int64_t>(1, crop_.w * 2 / 3)};
    if (slides_ && !asked && test.stride) stride_ = *test.stride;
  }

  Prediction predict(std::vector<PackedSample> samples) const {
    std::vector<ModelInput> inputs;
    for (PackedSample& sample : samples) {
      Batch one;
      one.samples.push_back(std::move(sample));
      inputs.push_back(model_.data_preprocessor()(one, /*training=*/false, device_));
    }
    if (inputs.size() > 1) return model_.predict_tta(inputs).at(0);
    const ModelInput& input = inputs.at(0);
    return with_input_errors(model_, input, [&] {
      return by_window(input) ? model_.predict_windows(input, crop_, stride_)
                              : model_.predict(input).at(0);
    });
  }

 private:
  bool by_window(const ModelInput& input) const {
    const int64_t height = input.images.size(2), width = input.images.size(3);
    if (asked_) return asked_->h > 0;
    // The same as the model's own prediction, without the logits of the whole image.
    if (slides_) return model_.num_classes() * height * width * 4 > kPredictMostLogits;
    if (height * width <= kPredictMostPixels) return false;
    log::info(input.metas.at(0).img_path, ": ", height, "x", width,
              " pixels are predicted by windows of ", crop_.h, "x", crop_.w, ", ", stride_.h, "x",
              stride_.w, " apart (--window 0: as a whole)");
    return true;
  }

  Segmentor& model_;
  c10::Device device_;
  std::optional<Size2> asked_;
  bool slides_ = false;
  Size2 crop_, stride_;
};

/// The tiles of rasters, which have room for a window of the model.
RasterTiles predict_tiles(const PredictOptions& options, Size2 window) {
  const int64_t side = options.tile.value_or(std::max({kPredictTile, window.h, window.w}));
  return {side, options.overlap_of(side)};
}

/// Predicts the images in turn, shared out among the processes; the first reports them in order.
/// \param predict  predicts the image of an index and writes its pictures.
PredictReport predict_together(const PredictInputs& inputs, Communicator& communicator,
                               const std::function<void(size_t)>& predict) {
  const auto world = static_cast<size_t>(communicator.size());
  const auto rank = static_cast<size_t>(communicator.rank());
  // Between exchanges, that processes with larger images keep others waiting the less.
  const size_t each = world == 1 ? 1 : 8;
  PredictReport result;
  const auto report = [&](size_t i, const std::string& failure) {
    const auto& [path, pictures, raster] = inputs[i];
    if (failure.empty()) {
      result.done.push_back(path.string());
      log::info("[", i + 1, "/", inputs.size(), "] ", path.string(), " -> ",
                pictures.shown.string());
    } else {
      result.failed.emplace_back(path.string(), failure);
      // That of a single image is told at the end.
      if (inputs.size() > 1) log::warn("[", i + 1, "/", inputs.size(), "] ", failure);
    }
  };
  ProgressBar bar;
  const auto start = std::chrono::steady_clock::now();
  for (size_t first = 0; first < inputs.size(); first += each * world) {
    std::vector<std::string> own(each);
    for (size_t j = 0; j < each && first + j * world + rank < inputs.size(); ++j) {
      if (const auto error = data_error_in([&] { predict(first + j * world + rank); })) {
        own[j] = error->what();
      }
    }
    const auto failures = gather_texts(communicator, own);
    if (rank != 0) continue;
    const size_t end = std::min(inputs.size(), first + each * world);
    for (size_t i = first; i < end; ++i) report(i, failures[i % world][(i - first) / world]);
    if (bar.due(/*pause_s=*/0.1)) {
      bar.show(predict_progress(end, inputs.size(), std::chrono::steady_clock::now() - start));
    }
  }
  communicator.barrier();  // one that leaves early would be missed
  return result;
}

}  // namespace

void apply_options(Config& tree, const PredictOptions& options) {
  if (options.launcher) tree.set("launcher", Config::of(*options.launcher));
  set_device(tree, options.device);
  if (!options.window || options.window->h > 0) return;
  Config* model = nullptr;
  if (auto* item = tree.find("model")) model = &item->value;
  auto* test_cfg = model ? model->find("test_cfg") : nullptr;
  if (!test_cfg || !test_cfg->value.is_map()) return;
  Config whole = Config::of("whole");
  whole.origin.file = std::make_shared<const std::string>("--window");
  test_cfg->value.set("mode", std::move(whole));
}

PredictReport predict_images(const RunConfig& config, const std::string& checkpoint_path,
                             const PredictOptions& options) {
  const bool depth = config.model.facts().estimates_depth;
  if (depth && options.tile) {
    throw DataError("--tile is for models of classes; this one estimates depth, of whole images");
  }
  const auto inputs = predict_inputs(options, depth);
  const SplitPipeline pipeline = predict_pipeline(config);
  // That of the config is the training's.
  const std::string launcher = options.launcher.value_or("none");
  log::set_rank(launch_place(launcher).rank);
  const c10::Device device = choose_device(config.env_cfg.device, local_rank(launcher), launcher);
  apply_environment(config.env_cfg, config.randomness.deterministic);
  const Value checkpoint = weights_of_command(config.tree, checkpoint_path);
  if (const auto dataset = predict_dataset(config)) {
    check_saved_classes(*dataset, checkpoint, checkpoint_path);
  }
  make_folders(options.out);
  const auto model = config.model.build();
  const LoadReport report = load_whole_model(*model, checkpoint, checkpoint_path);
  if (!report.exact() && is_first_process(launcher)) {
    log::warn(checkpoint_path, ":\n", report.text());
  }
  model->to(device);
  model->set_memory_format(choose_memory_format(config.env_cfg.memory_format));
  model->eval();
  const Palette palette = predict_palette(config, options, checkpoint, model->num_classes());
  const Predictor predictor(*model, device, config, options.window);
  const auto communicator = launcher == "none" ? std::make_unique<SingleProcess>()
                                               : join_processes(launcher, config.env_cfg, device);

  if (is_first_process(launcher)) {
    if (!depth) {
      write_legend(config, options, inputs, checkpoint, palette, model->num_classes());
    }
    log::info("predicting ", inputs.size(), inputs.size() == 1 ? " image on " : " images on ",
              device.str());
  }
  const torch::NoGradGuard no_grad;
  const auto load = [&](size_t i, const cv::Rect& window) {
    Sample sample;
    sample.meta.index = static_cast<int64_t>(i);
    sample.meta.name = inputs[i].path.stem().string();
    sample.meta.img_path = inputs[i].path.string();
    sample.meta.window = window;
    Rng rng(0, RngPurpose::kAugmentation, 0, i);
    return std::move(pipeline.load.run(std::move(sample), rng).at(0));
  };
  const RasterTiles tiles = predict_tiles(options, window_size(*model, config.tree));
  return predict_together(inputs, *communicator, [&](size_t i) {
    const auto& [path, pictures, raster] = inputs[i];
    if (raster && raster->by_tiles) {
      const ImageInfo& info = raster->source.info;
      log::info(path.string(), ": ", info.height, "x", info.width,
                " pixels are predicted by tiles of ", tiles.window, "x", tiles.window,
                ", of which ", tiles.core, "x", tiles.core, " are kept");
      make_folders(pictures.values.parent_path().string());
      predict_by_tiles(raster->source, tiles,
                       {.ids = pictures.values.string(),
                        .shown = pictures.shown.string(),
                        .palette = palette,
                        .classes = model->num_classes(),
                        .opacity = options.opacity},
                       [&](const cv::Rect& window) {
                         Sample loaded = load(i, window);
                         const cv::Mat image = loaded.image.clone();
                         return PredictedWindow{
                             image, predictor.predict(pipeline.rest(std::move(loaded), 0, 0)).ids};
                       });
      return;
    }
    Sample loaded = load(i, {});
    const cv::Mat shown = displayable(loaded.image);
    const Prediction found = predictor.predict(pipeline.rest(std::move(loaded), 0, 0));
    if (found.depth.defined()) {
      constexpr double kMillimetres = 1000;
      write_png(pictures.shown, depth_picture(shown, {}, found.depth));
      write_depth(pictures.values, found.depth, kMillimetres);
      return;
    }
    const at::Tensor ids = found.ids.cpu();
    write_png(pictures.shown, overlay(shown, ids, palette, options.opacity));
    if (raster) {
      write_class_raster(pictures.values, ids, /*one_up=*/false, palette, raster->source, {});
    } else {
      write_class_ids(pictures.values, ids, /*one_up=*/false, palette);
    }
  });
}

}  // namespace seg
