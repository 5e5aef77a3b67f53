#include "runners/prediction.hpp"

#include <algorithm>
#include <filesystem>
#include <map>
#include <opencv2/core.hpp>

#include "registry/log.hpp"
#include "runners/device.hpp"
#include "runners/evaluation_run.hpp"
#include "segcore/data/image_io.hpp"
#include "segcore/data/pipeline.hpp"
#include "segcore/evaluation/pictures.hpp"
#include "segcore/io/atomic_file.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/io/model_zoo.hpp"
#include "segcore/io/named_weights.hpp"
#include "segcore/torch.hpp"

namespace fs = std::filesystem;

namespace seg {
namespace {

/// Above it the logits of a whole image are not held at once.
constexpr int64_t kPredictMostLogits = int64_t{1} << 28;  // bytes

std::string predict_type(const Config& component) {
  const auto* type = component.find("type");
  if (!type) return "";
  const std::string& name = type->value.scalar;
  return name.substr(name.rfind('.') + 1);
}

/// The data set that images are read for, inside of those that only wrap one.
const Config* predict_dataset(const RunConfig& config) {
  for (const auto* loader : {&config.test_dataloader, &config.val_dataloader}) {
    if (!*loader) continue;
    const Config* dataset = nullptr;
    const char* key = loader == &config.test_dataloader ? "test_dataloader" : "val_dataloader";
    dataset = config.tree.at_path(std::string(key) + ".dataset");
    while (dataset) {
      if (const auto* inner = dataset->find("dataset")) {
        dataset = &inner->value;
      } else if (const auto* list = dataset->find("datasets");
                 list && list->value.is_list() && !list->value.list.empty()) {
        dataset = &list->value.list.front();
      } else {
        return dataset;
      }
    }
  }
  return nullptr;
}

/// The steps before and after which an image is at hand as it was loaded.
struct PredictPipeline {
  std::unique_ptr<Pipeline> load, rest;
};

PredictPipeline predict_pipeline(const RunConfig& config) {
  const Config* steps = nullptr;
  if (const Config* dataset = predict_dataset(config)) {
    if (const auto* item = dataset->find("pipeline")) steps = &item->value;
  }
  if (!steps) steps = config.tree.at_path("test_pipeline");
  if (!steps || !steps->is_list()) {
    Diagnostics problems;
    problems.error(config.tree.origin, "test_dataloader",
                   "its data set has no pipeline to read images with");
    throw ConfigError(problems);
  }
  Config load = *steps, rest = *steps;
  load.list.clear();
  rest.list.clear();
  for (const Config& step : steps->list) {
    const std::string type = predict_type(step);
    // Steps that are about labels alone.
    if (type == "LoadAnnotations" || type == "GenerateEdge" || type == "SegRescale") continue;
    (rest.list.empty() && type.starts_with("Load") ? load : rest).list.push_back(step);
  }
  if (load.list.empty()) load.list.push_back(parse_config("{type: LoadImageFromFile}"));
  Diagnostics problems;
  const auto parse = [&](const Config& list) {
    return Convert<std::vector<Spec<Transform>>>::from(list, "pipeline", problems);
  };
  const auto first = parse(load), second = parse(rest);
  if (problems.has_errors()) throw ConfigError(problems);
  return {std::make_unique<Pipeline>(*first), std::make_unique<Pipeline>(*second)};
}

/// Colours from the checkpoint, else from the data set of the config, else the default ones.
Palette predict_palette(const RunConfig& config, const Value& checkpoint, int64_t classes) {
  const Value* meta = checkpoint.find("meta");
  const Value* dataset_meta = meta ? meta->find("dataset_meta") : nullptr;
  const Value* saved = dataset_meta ? dataset_meta->find("palette") : nullptr;
  if (saved && (saved->is_list() || saved->is_tuple())) {
    Palette palette;
    for (const Value& colour : saved->as_list()) {
      const ValueList& rgb = colour.as_list();
      if (rgb.size() != 3) break;
      palette.push_back({static_cast<int>(rgb[0].as_int()), static_cast<int>(rgb[1].as_int()),
                         static_cast<int>(rgb[2].as_int())});
    }
    if (static_cast<int64_t>(palette.size()) >= classes) return palette;
  }
  if (const Config* dataset = predict_dataset(config)) {
    Config lazy = *dataset;
    lazy.set("lazy_init", Config::of(true));  // its files may not be here
    Diagnostics problems;
    const auto spec = Spec<Dataset>::parse(lazy, "dataset", problems);
    try {
      if (spec) return palette_or_default(spec->build()->meta().palette, classes);
    } catch (const DataError& e) {
      log::debug("no palette from the data set: ", e.what());
    }
  }
  return default_palette(classes);
}

bool predict_is_image(const fs::path& path) {
  std::string suffix = path.extension().string();
  std::transform(suffix.begin(), suffix.end(), suffix.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  static const std::vector<std::string> known{".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"};
  return std::find(known.begin(), known.end(), suffix) != known.end();
}

/// Each image with the path of its pictures, without suffix.
std::vector<std::pair<fs::path, fs::path>> predict_inputs(const PredictOptions& options) {
  const fs::path input = options.input, out = options.out;
  std::vector<fs::path> found;
  if (!fs::exists(input)) throw DataError(text(options.input, ": there is no such file or folder"));
  if (fs::is_directory(input)) {
    const auto own = fs::weakly_canonical(out);
    for (auto it = fs::recursive_directory_iterator(input); it != fs::end(it); ++it) {
      // The pictures of an earlier call are no images to predict.
      if (it->is_directory() && fs::weakly_canonical(it->path()) == own) {
        it.disable_recursion_pending();
      } else if (it->is_regular_file() && predict_is_image(it->path())) {
        found.push_back(it->path());
      }
    }
    if (found.empty()) {
      throw DataError(text(options.input,
                           ": the folder holds no images (.jpg, .jpeg, .png, .bmp, .tif, .tiff)"));
    }
    std::sort(found.begin(), found.end());
  } else {
    found.push_back(input);
  }
  std::map<fs::path, int> stems;
  const auto target = [&](const fs::path& image, bool whole_name) {
    fs::path name = fs::is_directory(input) ? fs::relative(image, input) : image.filename();
    if (!whole_name) name.replace_extension();
    return out / name;
  };
  for (const fs::path& image : found) ++stems[target(image, false)];
  std::vector<std::pair<fs::path, fs::path>> result;
  for (const fs::path& image : found) {
    // a.jpg beside a.png: both keep their suffix.
    result.emplace_back(image, target(image, stems[target(image, false)] > 1));
  }
  return result;
}

/// The window of `model.test_cfg`, where it slides.
std::optional<SlideWindow> predict_window(const RunConfig& config) {
  const Config* mode = config.tree.at_path("model.test_cfg.mode");
  if (!mode || mode->scalar != "slide") return std::nullopt;
  const auto sides = [&](const char* key) -> std::optional<std::pair<int64_t, int64_t>> {
    const Config* c = config.tree.at_path(std::string("model.test_cfg.") + key);
    if (!c) return std::nullopt;
    Diagnostics problems;
    if (c->is_list() && c->list.size() == 2) {
      const auto h = Convert<int64_t>::from(c->list[0], key, problems);
      const auto w = Convert<int64_t>::from(c->list[1], key, problems);
      if (h && w) return std::pair(*h, *w);
    } else if (const auto both = Convert<int64_t>::from(*c, key, problems)) {
      return std::pair(*both, *both);
    }
    return std::nullopt;
  };
  const auto crop = sides("crop_size"), stride = sides("stride");
  if (!crop || !stride) return std::nullopt;
  return SlideWindow{crop->first, crop->second, stride->first, stride->second};
}

at::Tensor predict_sample(Segmentor& model, std::vector<PackedSample> samples, c10::Device device,
                          const std::optional<SlideWindow>& window) {
  std::vector<ModelInput> inputs;
  for (PackedSample& sample : samples) {
    Batch one;
    one.samples.push_back(std::move(sample));
    inputs.push_back(model.data_preprocessor()(one, /*training=*/false, device));
  }
  if (inputs.size() > 1) return model.predict_tta(inputs).at(0);
  const ModelInput& input = inputs.at(0);
  const SampleMeta& meta = input.metas.at(0);
  const int64_t height = input.images.size(2), width = input.images.size(3);
  const bool as_loaded = !meta.flip && meta.ori_shape[0] == height && meta.ori_shape[1] == width &&
                         meta.img_shape == meta.ori_shape;
  const int64_t bytes = model.num_classes() * height * width * 4;
  if (window && as_loaded && model.num_classes() > 1 && bytes > kPredictMostLogits) {
    return predict_by_rows(model, input.images, *window);
  }
  try {
    return model.predict(input).at(0);
  } catch (const c10::Error&) {
    check_bands(model, input);
    throw;
  }
}

}  // namespace

at::Tensor predict_by_rows(Segmentor& model, const at::Tensor& image, const SlideWindow& window) {
  const int64_t height = image.size(2), width = image.size(3);
  const auto places = [](int64_t side, int64_t crop, int64_t stride) {
    return std::max<int64_t>(side - crop + stride - 1, 0) / stride + 1;
  };
  const int64_t rows = places(height, window.crop_h, window.stride_h);
  const int64_t columns = places(width, window.crop_w, window.stride_w);
  const int64_t band = std::min(window.crop_h, height);
  const auto top_of = [&](int64_t row) {
    return std::max<int64_t>(
        std::min(row * window.stride_h + window.crop_h, height) - window.crop_h, 0);
  };
  at::Tensor ids = at::empty({height, width}, image.options().dtype(at::kLong));
  at::Tensor sum, count;  // [1, C, band, W] and [1, 1, band, W], of the rows from `top` on
  int64_t top = 0;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < columns; ++column) {
      const int64_t right = std::min(column * window.stride_w + window.crop_w, width);
      const int64_t left = std::max<int64_t>(right - window.crop_w, 0);
      const at::Tensor logits =
          model.encode_decode(image.narrow(2, top, band).narrow(3, left, right - left));
      if (!sum.defined()) {
        SEG_CHECK(logits.size(1) > 1, "expected a score for each of several classes");
        sum = at::zeros({1, logits.size(1), band, width}, logits.options());
        count = at::zeros({1, 1, band, width}, logits.options());
      }
      sum.narrow(3, left, right - left).add_(logits);
      count.narrow(3, left, right - left).add_(1);
    }
    // No later window reaches the rows above the next one's top.
    const int64_t next = row + 1 < rows ? top_of(row + 1) : top + band;
    const int64_t ready = next - top;
    if (ready > 0) {
      const at::Tensor mean = sum.narrow(2, 0, ready) / count.narrow(2, 0, ready);
      ids.narrow(0, top, ready).copy_(mean.argmax(1)[0]);
      const int64_t kept = band - ready;
      for (at::Tensor* buffer : {&sum, &count}) {
        if (kept > 0) buffer->narrow(2, 0, kept).copy_(buffer->narrow(2, ready, kept).clone());
        buffer->narrow(2, kept, ready).zero_();
      }
    }
    top = next;
  }
  return ids;
}

PredictReport predict_images(const RunConfig& config, const std::string& checkpoint_path,
                             const PredictOptions& options) {
  const auto inputs = predict_inputs(options);
  const PredictPipeline pipeline = predict_pipeline(config);
  const c10::Device device =
      choose_device(options.device.empty() ? config.env_cfg.device : options.device, 0);
  const Value checkpoint = read_checkpoint(resolve_checkpoint(checkpoint_path));
  make_folders(options.out);
  const auto model = config.model.build();
  const LoadReport report = load_whole_model(*model, checkpoint, checkpoint_path);
  if (!report.exact()) log::warn(checkpoint_path, ":\n", report.text());
  model->to(device);
  model->eval();
  const Palette palette = predict_palette(config, checkpoint, model->num_classes());
  const auto window = predict_window(config);

  const torch::NoGradGuard no_grad;
  PredictReport result;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const auto& [path, target] = inputs[i];
    try {
      Sample sample;
      sample.meta.index = static_cast<int64_t>(i);
      sample.meta.img_path = path.string();
      Rng rng(0, RngPurpose::kAugmentation, 0, i);
      Sample loaded = std::move(pipeline.load->run(std::move(sample), rng).at(0));
      const cv::Mat shown = displayable(loaded.image);
      const at::Tensor ids =
          predict_sample(*model, (*pipeline.rest)(std::move(loaded), 0, 0), device, window).cpu();
      write_png(target.string() + ".png", overlay(shown, ids, palette, options.opacity));
      write_class_ids(target.string() + "_ids.png", ids, /*one_up=*/false);
      result.done.push_back(path.string());
      log::info("[", i + 1, "/", inputs.size(), "] ", path.string(), " -> ", target.string(),
                ".png");
    } catch (const DataError& e) {
      result.failed.emplace_back(path.string(), e.what());
      log::warn("[", i + 1, "/", inputs.size(), "] ", e.what());
    }
  }
  return result;
}

}  // namespace seg
