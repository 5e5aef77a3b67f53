/// Measures what a configuration costs: a training step, the data pipeline, the start; and how fast
/// a checkpoint is read.
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <set>

#include "registry/log.hpp"
#include "registry/yaml.hpp"
#include "runners/evaluate/image_size.hpp"
#include "runners/start/device.hpp"
#include "runners/start/environment.hpp"
#include "runners/start/options.hpp"
#include "runners/start/run_config.hpp"
#include "segcore/data/rng.hpp"
#include "segcore/image/image_io.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/io/weights.hpp"
#include "segcore/torch.hpp"
#include "tools/common/command_line.hpp"
#include "tools/common/help.hpp"

namespace {

using Json = nlohmann::ordered_json;

struct BenchmarkArguments {
  std::string config, device, python;
  std::vector<std::string> overrides, what{"step"};
  std::vector<int64_t> threads, shape, pictures;
  int64_t iters = 20, warmup = 5, batch_size = 0;
  bool amp = false;
};

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Seconds since the kernel started this process, which is before its libraries were loaded.
double process_age() {
  std::ifstream file("/proc/self/stat");
  std::string stat;
  std::getline(file, stat);
  // The name in brackets may hold blanks; the start is the 20th field after it.
  std::istringstream fields(stat.substr(stat.rfind(')') + 2));
  std::string field;
  for (int i = 0; i < 20; ++i) fields >> field;
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9 -
         std::stod(field) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

/// Six digits are enough to compare.
double rounded(double value) {
  if (value == 0 || !std::isfinite(value)) return value;
  const double unit = std::pow(10.0, 5 - std::floor(std::log10(std::abs(value))));
  return std::round(value * unit) / unit;
}

/// Images of another shape than the configuration's must not be padded to that.
void apply_shape(seg::Config& tree, const std::vector<int64_t>& shape) {
  auto* model = tree.find("model");
  auto* preprocessor = model ? model->value.find("data_preprocessor") : nullptr;
  auto* size = preprocessor ? preprocessor->value.find("size") : nullptr;
  if (shape.empty() || !size || size->value.is_null()) return;
  seg::Config asked;
  asked.kind = seg::Config::Kind::kList;
  for (const int64_t side : shape) asked.list.push_back(seg::Config::of(side));
  asked.origin.file = std::make_shared<const std::string>("--shape");
  size->value = std::move(asked);
}

/// The shape of each training image: as asked for, else what the configuration crops or pads to.
std::array<int64_t, 2> image_shape(const BenchmarkArguments& arguments, const seg::Segmentor& model,
                                   const seg::Config& tree) {
  if (!arguments.shape.empty()) return {arguments.shape[0], arguments.shape[1]};
  const seg::Size2 size = seg::training_size(model, tree).value_or(seg::Size2(512));
  return {size.h, size.w};
}

/// Blocks of random colours and classes: noise of single pixels would not compress as pictures do.
cv::Mat block_picture(int64_t height, int64_t width, int type, int64_t values, seg::Rng& rng) {
  cv::Mat out(static_cast<int>(height), static_cast<int>(width), type);
  constexpr int kBlock = 16;
  for (int y = 0; y < out.rows; y += kBlock) {
    for (int x = 0; x < out.cols; x += kBlock) {
      const cv::Rect block = cv::Rect(x, y, kBlock, kBlock) & cv::Rect(0, 0, out.cols, out.rows);
      out(block).setTo(cv::Scalar(static_cast<double>(rng.below(values)),
                                  static_cast<double>(rng.below(values)),
                                  static_cast<double>(rng.below(values))));
    }
  }
  return out;
}

seg::Batch synthetic_batch(int64_t size, std::array<int64_t, 2> shape, int64_t bands,
                           int64_t classes) {
  seg::Batch batch;
  for (int64_t i = 0; i < size; ++i) {
    seg::PackedSample sample;
    sample.meta.img_path = "synthetic";
    sample.meta.ori_shape = sample.meta.img_shape = sample.meta.pad_shape = shape;
    sample.image = torch::randint(0, 256, {bands, shape[0], shape[1]}, torch::kByte);
    sample.labels = torch::randint(0, classes, {shape[0], shape[1]}, torch::kByte);
    batch.samples.push_back(std::move(sample));
  }
  return batch;
}

/// Model and optimizer of a configuration, and the training step.
class BenchmarkedModel {
 public:
  BenchmarkedModel(const seg::RunConfig& config, c10::Device device) : device_(device) {
    torch::manual_seed(0);
    seg::apply_environment(config.env_cfg, config.randomness.deterministic);
    model_ = config.model.build();
    model_->init_weights();
    model_->to(device);
    model_->train();
    if (!config.optim_wrapper) throw seg::DataError("the configuration has no 'optim_wrapper'");
    optimizer_ = config.optim_wrapper->build(*model_);
  }
  /// One step, with the work of the device queued and not waited for.
  void step(const seg::Batch& batch) {
    const auto input = model_->data_preprocessor()(batch, /*training=*/true, device_);
    input_shape_ = {input.images.size(2), input.images.size(3)};
    seg::LossMap losses;
    {
      const auto precision = optimizer_->precision();
      losses = model_->loss(input.images, seg::Targets(input));
    }
    loss_ = seg::total_loss(losses);
    optimizer_->scale_loss(loss_).backward();
    optimizer_->step();
  }
  /// Waits for the device.
  /// Height and width that the model saw, which the preprocessor may have padded.
  std::array<int64_t, 2> input_shape() const { return input_shape_; }
  double loss() const { return loss_.item<double>(); }
  c10::Device device() const { return device_; }
  seg::Segmentor& model() { return *model_; }

 private:
  c10::Device device_;
  std::shared_ptr<seg::Segmentor> model_;
  std::unique_ptr<seg::OptimWrapper> optimizer_;
  torch::Tensor loss_;
  std::array<int64_t, 2> input_shape_{};
};

/// Of the device, or of the whole process on a CPU.
int64_t peak_memory_mb(c10::Device device) {
  if (const auto peak = seg::take_peak_memory_mb(device)) return *peak;
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss / 1024;
}

Json time_summary(std::vector<double> seconds, int64_t images_a_step) {
  double sum = 0;
  for (const double s : seconds) sum += s;
  const double mean = sum / static_cast<double>(seconds.size());
  std::sort(seconds.begin(), seconds.end());
  return {{"iters", seconds.size()},
          {"batch_size", images_a_step},
          {"seconds_per_step", rounded(mean)},
          {"seconds_per_step_median", rounded(seconds[seconds.size() / 2])},
          {"seconds_per_step_max", rounded(seconds.back())},
          {"images_per_second", rounded(static_cast<double>(images_a_step) / mean)}};
}

int64_t batch_size_of(const BenchmarkArguments& arguments, const seg::RunConfig& config) {
  if (arguments.batch_size > 0) return arguments.batch_size;
  return config.train_dataloader ? config.train_dataloader->batch_size : 2;
}

/// A training step on random images that are in memory.
Json benchmark_step(const BenchmarkArguments& arguments, const seg::RunConfig& config,
                    c10::Device device) {
  BenchmarkedModel model(config, device);
  const auto shape = image_shape(arguments, model.model(), config.tree);
  const int64_t size = batch_size_of(arguments, config);
  const auto batch = synthetic_batch(size, shape, model.model().bands().value_or(3),
                                     std::min<int64_t>(model.model().num_classes(), 255));
  for (int64_t i = 0; i < arguments.warmup; ++i) model.step(batch);
  seg::synchronize_device(device);
  seg::take_peak_memory_mb(device);
  std::vector<double> seconds;
  const double first = seconds_now();
  for (int64_t i = 0; i < arguments.iters; ++i) {
    const double begin = seconds_now();
    model.step(batch);
    seconds.push_back(seconds_now() - begin);
  }
  if (!device.is_cpu()) {
    // Steps are queued, as in a run: only all of them together can be timed.
    seg::synchronize_device(device);
    seconds.assign(seconds.size(), (seconds_now() - first) / static_cast<double>(arguments.iters));
  }
  Json out = time_summary(seconds, size);
  out["shape"] = model.input_shape();
  out["peak_memory_mb"] = peak_memory_mb(device);
  out["loss"] = rounded(model.loss());
  return out;
}

std::unique_ptr<seg::DataLoader> training_loader(const seg::RunConfig& config,
                                                 std::optional<int64_t> threads) {
  if (!config.train_dataloader) {
    throw seg::DataError("the configuration has no 'train_dataloader' to measure");
  }
  seg::DataLoaderParams params = *config.train_dataloader;
  if (threads) params.num_workers = *threads;
  return std::make_unique<seg::DataLoader>(params, seg::LoaderPlace{.seed = 0});
}

seg::Batch next_batch(seg::DataLoader& loader) {
  auto batch = loader.next();
  if (!batch) throw seg::DataError("the loader has no more batches");
  return std::move(*batch);
}

/// Batches of the training pipeline, loaded and dropped.
Json benchmark_data(const BenchmarkArguments& arguments, const seg::RunConfig& config) {
  std::vector<int64_t> counts = arguments.threads;
  if (counts.empty()) {
    counts.push_back(config.train_dataloader ? config.train_dataloader->num_workers : 0);
  }
  Json out = Json::array();
  for (const int64_t threads : counts) {
    const auto loader = training_loader(config, threads);
    loader->start();
    // Batches loaded ahead are not counted: first as many are taken as the loader may hold.
    const int64_t ahead = std::max<int64_t>(arguments.warmup, 2 * threads + 1);
    for (int64_t i = 0; i < ahead; ++i) next_batch(*loader);
    const double begin = seconds_now();
    size_t images = 0;
    for (int64_t i = 0; i < arguments.iters; ++i) images += next_batch(*loader).size();
    const double seconds = seconds_now() - begin;
    loader->stop();
    out.push_back({{"threads", threads},
                   {"batch_size", loader->batch_size()},
                   {"images", images},
                   {"images_per_second", rounded(static_cast<double>(images) / seconds)}});
  }
  return out;
}

/// Training as a run does it, with the time that steps wait for the loader.
Json benchmark_train(const BenchmarkArguments& arguments, const seg::RunConfig& config,
                     c10::Device device) {
  BenchmarkedModel model(config, device);
  std::optional<int64_t> threads;
  if (!arguments.threads.empty()) threads = arguments.threads[0];
  const auto loader = training_loader(config, threads);
  loader->start();
  for (int64_t i = 0; i < arguments.warmup; ++i) model.step(next_batch(*loader));
  seg::synchronize_device(device);
  seg::take_peak_memory_mb(device);
  std::vector<double> seconds;
  double waited = 0, all = 0;
  for (int64_t i = 0; i < arguments.iters; ++i) {
    const double begin = seconds_now();
    const seg::Batch batch = next_batch(*loader);
    waited += seconds_now() - begin;
    model.step(batch);
    // A step's loss is read, as a run's log reads it: else the queue of the device would grow
    // without end, and waiting for data would hide behind it.
    model.loss();
    seconds.push_back(seconds_now() - begin);
    all += seconds.back();
  }
  loader->stop();
  Json out = time_summary(seconds, loader->batch_size());
  out["threads"] = threads.value_or(config.train_dataloader->num_workers);
  out["share_waiting_for_data"] = rounded(waited / all);
  out["peak_memory_mb"] = peak_memory_mb(device);
  out["loss"] = rounded(model.loss());
  return out;
}

/// From the start of the process to the end of the first training step; must come first.
Json benchmark_start(const seg::RunConfig& config, c10::Device device) {
  const double configured = process_age();
  const auto loader = training_loader(config, std::nullopt);
  loader->start();
  BenchmarkedModel model(config, device);
  const double built = process_age();
  const seg::Batch batch = next_batch(*loader);
  const double loaded = process_age();
  model.step(batch);
  const double loss = model.loss();
  const double done = process_age();
  loader->stop();
  return {{"seconds_to_config", rounded(configured)},
          {"seconds_to_model", rounded(built)},
          {"seconds_to_first_batch", rounded(loaded)},
          {"seconds_to_first_step", rounded(done)},
          {"loss", rounded(loss)}};
}

/// Pictures in a folder that is removed again, put in the place of a configuration's data set.
class PictureFolder {
 public:
  PictureFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "segcore-XXXXXX").string();
    if (!mkdtemp(name.data())) throw seg::DataError("cannot make a folder " + name);
    path_ = name;
  }
  ~PictureFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  PictureFolder(const PictureFolder&) = delete;
  PictureFolder& operator=(const PictureFolder&) = delete;

  void replace_dataset(seg::Config& tree, int64_t height, int64_t width) const {
    auto* loader = tree.find("train_dataloader");
    auto* dataset = loader ? loader->value.find("dataset") : nullptr;
    if (!dataset || !dataset->value.is_map()) {
      throw seg::DataError("--pictures needs 'train_dataloader.dataset' in the configuration");
    }
    write(height, width);
    seg::Config& at = dataset->value;
    at.set("data_root", seg::Config::of(path_));
    at.set("data_prefix", seg::parse_config("{img_path: img, seg_map_path: ann}", "--pictures"));
    at.set("img_suffix", seg::Config::of(".jpg"));
    at.set("seg_map_suffix", seg::Config::of(".png"));
    at.set("ann_file", seg::Config::of(""));
  }

 private:
  void write(int64_t height, int64_t width) const {
    constexpr int kPictures = 16;
    // Raw values 1 and 2 are classes whether or not 0 is "other".
    constexpr int64_t kValues = 3;
    for (int i = 0; i < kPictures; ++i) {
      seg::Rng rng(0, seg::RngPurpose::kSynthetic, 0, static_cast<uint64_t>(i));
      seg::write_jpeg(seg::text(path_, "/img/", i, ".jpg"),
                      block_picture(height, width, CV_8UC3, 256, rng));
      seg::write_png(seg::text(path_, "/ann/", i, ".png"),
                     block_picture(height, width, CV_8UC1, kValues, rng));
    }
  }

  std::string path_;
};

/// The same as read_and_copy in Python, timed there: torch.load with its files mapped, and the
/// copy.
constexpr const char* kTorchLoad = R"(
import os, time, torch
path, rounds = os.environ["SEGCORE_FILE"], int(os.environ["SEGCORE_ROUNDS"])
def load():
    found = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    return found.get("state_dict", found)
torch.set_num_threads(int(os.environ["SEGCORE_THREADS"]))
target = {k: torch.ones_like(v) for k, v in load().items() if torch.is_tensor(v)}
times = []
for _ in range(rounds):
    begin = time.perf_counter()
    found = load()
    for k, v in target.items():
        v.copy_(found[k])
    times.append(time.perf_counter() - begin)
print(sorted(times)[len(times) // 2], min(times))
)";

/// Median and least seconds of torch.load in `python`.
std::array<double, 2> torch_load_seconds(const std::string& python, const std::string& path,
                                         int64_t rounds) {
  setenv("SEGCORE_FILE", path.c_str(), 1);
  setenv("SEGCORE_ROUNDS", std::to_string(rounds).c_str(), 1);
  setenv("SEGCORE_THREADS", std::to_string(at::get_num_threads()).c_str(), 1);
  FILE* pipe = popen(("'" + python + "' -c '" + kTorchLoad + "'").c_str(), "r");
  std::array<double, 2> out{};
  const bool read = pipe && fscanf(pipe, "%lf %lf", &out[0], &out[1]) == 2;
  if (pipe) pclose(pipe);
  if (!read) throw seg::DataError(python + " could not load the file with torch.load");
  return out;
}

/// Reading a checkpoint and copying its weights into existing tensors, as loading does.
Json benchmark_checkpoint(const BenchmarkArguments& arguments) {
  const std::string& path = arguments.config;
  std::vector<std::pair<std::string, at::Tensor>> target;
  double bytes = 0;
  {
    const seg::Value state = seg::find_state_dict(seg::read_checkpoint(path));
    for (const auto& [name, value] : state.as_dict()) {
      if (!value.is_tensor()) continue;
      target.emplace_back(name.as_string(), at::ones_like(value.as_tensor()));
      bytes += static_cast<double>(target.back().second.nbytes());
    }
  }
  std::vector<double> times;
  for (int64_t i = 0; i < arguments.iters; ++i) {
    const double begin = seconds_now();
    const seg::Value state = seg::find_state_dict(seg::read_checkpoint(path));
    size_t next = 0;
    for (const auto& [name, value] : state.as_dict()) {
      if (value.is_tensor()) target[next++].second.copy_(value.as_tensor());
    }
    times.push_back(seconds_now() - begin);
  }
  std::sort(times.begin(), times.end());
  Json out{{"megabytes", rounded(bytes / 1e6)},
           {"seconds", rounded(times[times.size() / 2])},
           {"least_seconds", rounded(times.front())}};
  if (!arguments.python.empty()) {
    const auto theirs = torch_load_seconds(arguments.python, path, arguments.iters);
    out["torch_load_seconds"] = rounded(theirs[0]);
    out["torch_load_least_seconds"] = rounded(theirs[1]);
    out["ratio"] = rounded(times[times.size() / 2] / theirs[0]);
  }
  return out;
}

int benchmark(const BenchmarkArguments& arguments) {
  // The one line on standard output is the result.
  seg::log::set_level("ERROR");
  if (std::count(arguments.what.begin(), arguments.what.end(), "checkpoint")) {
    if (arguments.what.size() > 1) {
      throw seg::UsageError("--what checkpoint measures a file, the others a configuration");
    }
    const Json out{{"file", arguments.config},
                   {"cpu_threads", at::get_num_threads()},
                   {"checkpoint", benchmark_checkpoint(arguments)}};
    std::cout << out.dump() << std::endl;
    return 0;
  }
  std::optional<PictureFolder> pictures;
  if (!arguments.pictures.empty()) pictures.emplace();
  const auto load = [&](const std::vector<int64_t>& shape) {
    return seg::load_run_config(arguments.config, arguments.overrides, [&](seg::Config& tree) {
      seg::TrainOptions options;
      options.amp = arguments.amp;
      seg::apply_options(tree, options);
      apply_shape(tree, shape);
      if (pictures) pictures->replace_dataset(tree, arguments.pictures[0], arguments.pictures[1]);
    });
  };
  const seg::RunConfig config = load({});
  const std::set<std::string> what(arguments.what.begin(), arguments.what.end());
  const c10::Device device = seg::choose_device(
      arguments.device.empty() ? config.env_cfg.device : arguments.device, /*local_rank=*/0);
  Json out{{"config", arguments.config},
           {"device", device.str()},
           {"cpu_threads", at::get_num_threads()},
           {"amp", arguments.amp}};
  if (what.contains("start")) out["start"] = benchmark_start(config, device);
  if (what.contains("data")) out["data"] = benchmark_data(arguments, config);
  if (what.contains("step")) {
    // The pipeline's images keep the configuration's shape, the synthetic ones have their own.
    out["step"] = arguments.shape.empty()
                      ? benchmark_step(arguments, config, device)
                      : benchmark_step(arguments, load(arguments.shape), device);
  }
  if (what.contains("train")) out["train"] = benchmark_train(arguments, config, device);
  std::cout << out.dump() << std::endl;
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return seg::run_main(
      argc, argv,
      "Measures what the training of a configuration costs, and prints one line of JSON: a step on "
      "synthetic images (step), the data pipeline alone (data), both together with the share of "
      "time spent waiting for data (train), and the time from the start of the program to the end "
      "of the first step (start). With --what checkpoint CONFIG is a checkpoint: the time to read "
      "it and copy its weights.",
      [](CLI::App& app) {
        seg::add_help(app, {.example = "tools/benchmark configs/quickstart.yaml --iters 5",
                            .exit_codes = {}});
        auto arguments = std::make_shared<BenchmarkArguments>();
        app.add_option("config", arguments->config, "configuration file")->required();
        app.add_option("--what", arguments->what,
                       "what to measure: step, data, train, start, one or more (default: step); or "
                       "checkpoint")
            ->type_name("NAME ...")
            ->expected(1, 4)
            ->check(seg::known_word({"step", "data", "train", "start", "checkpoint"}));
        app.add_option("--python", arguments->python,
                       "with --what checkpoint: a Python with torch, to time torch.load(mmap=True) "
                       "and the copy for comparison")
            ->type_name("PROGRAM");
        app.add_option("--threads", arguments->threads,
                       "threads of the loader; with several numbers, data is measured for each "
                       "(default: num_workers of the configuration)")
            ->type_name("N ...")
            ->expected(1, -1)
            ->check(seg::whole_number(0));
        app.add_option("--iters", arguments->iters, "steps or batches to measure (default: 20)")
            ->type_name("N")
            ->check(seg::whole_number(1));
        app.add_option("--warmup", arguments->warmup, "steps or batches before (default: 5)")
            ->type_name("N")
            ->check(seg::whole_number(0));
        app.add_option("--batch-size", arguments->batch_size,
                       "images of a synthetic step (default: that of train_dataloader)")
            ->type_name("N")
            ->check(seg::whole_number(1));
        app.add_option("--shape", arguments->shape,
                       "height and width of synthetic images (default: the configuration's crop)")
            ->type_name("H W")
            ->expected(2)
            ->check(seg::whole_number(1));
        app.add_option("--pictures", arguments->pictures,
                       "use generated pictures of this height and width instead of the files of "
                       "the data set")
            ->type_name("H W")
            ->expected(2)
            ->check(seg::whole_number(1));
        app.add_flag("--amp", arguments->amp, "in mixed precision");
        app.add_option("--device", arguments->device,
                       "auto, cpu, cuda or cuda:1 (default: env_cfg.device)")
            ->type_name("NAME");
        seg::add_cfg_options(app, arguments->overrides);
        return [arguments] { return benchmark(*arguments); };
      });
}
