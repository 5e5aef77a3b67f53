#include "runners/start/options.hpp"

#include "registry/yaml.hpp"
#include "segcore/data/dataset_spec.hpp"

namespace seg {
namespace {

/// A value that shows the option as its origin.
Config option_value(const Config& value, const char* option) {
  Config out = value;
  out.origin.file = std::make_shared<const std::string>(option);
  return out;
}

void set_option(Config& tree, const char* key, const std::optional<std::string>& value,
                const char* option) {
  if (value) tree.set(key, option_value(Config::of(*value), option));
}

/// Draws every prediction into the folder.
void draw_into(Config& tree, const std::string& folder) {
  auto* hooks = tree.find("default_hooks");
  if (!hooks || !hooks->value.is_map()) {
    tree.set("default_hooks", parse_config("{}", "--show-dir"));
    hooks = tree.find("default_hooks");
  }
  if (!hooks->value.find("visualization")) {
    hooks->value.set("visualization",
                     parse_config("{type: SegVisualizationHook, interval: 1}", "--show-dir"));
  }
  Config& hook = hooks->value.find("visualization")->value;
  hook.set("draw", option_value(Config::of(true), "--show-dir"));
  hook.set("interval", option_value(Config::of(int64_t{1}), "--show-dir"));
  hook.set("out_dir", option_value(Config::of(folder), "--show-dir"));
}

/// Sets how strongly colours cover the image, in the visualizer that the config has or gets.
void set_opacity(Config& tree, double opacity) {
  auto* visualizer = tree.find("visualizer");
  if (!visualizer || !visualizer->value.is_map()) {
    tree.set("visualizer",
             parse_config("{type: SegLocalVisualizer, vis_backends: [{type: LocalVisBackend}]}",
                          "--opacity"));
    visualizer = tree.find("visualizer");
  }
  visualizer->value.set("alpha", option_value(Config::of(opacity), "--opacity"));
}

Config* dataset_of(Config& tree, const std::string& loader) {
  auto* item = tree.find(loader);
  if (!item || !item->value.is_map()) return nullptr;
  auto* dataset = item->value.find("dataset");
  return dataset && dataset->value.is_map() ? &dataset->value : nullptr;
}

[[noreturn]] void fail_for_option(const Config& tree, const char* option, const char* needed) {
  Diagnostics problems;
  problems.error(tree.origin, "", text(option, " needs '", needed, "' in the configuration"));
  throw ConfigError(problems);
}

/// Tests the images of another split, loaded as those of the test set are.
void test_split(Config& tree, const std::string& split) {
  if (split == "test") return;
  const std::string loader = split + "_dataloader";
  Config* tested = dataset_of(tree, "test_dataloader");
  if (!tested) fail_for_option(tree, "--split", "test_dataloader.dataset");
  const Config* source = dataset_of(tree, loader);
  if (!source) fail_for_option(tree, "--split", text(loader, ".dataset").c_str());
  const Config* found = dataset_pipeline(*tested);
  const Config pipeline = found ? *found : parse_config("[]", "--split");
  *tested = unwrapped_dataset(*source);
  set_dataset_pipeline(*tested, pipeline);
}

/// Gives the test set the pipeline of test-time augmentation.
void augment_tests(Config& tree) {
  const auto* pipeline = tree.find("tta_pipeline");
  Config* dataset = dataset_of(tree, "test_dataloader");
  if (!dataset) fail_for_option(tree, "--tta", "test_dataloader.dataset");
  if (!pipeline || pipeline->value.is_null()) fail_for_option(tree, "--tta", "tta_pipeline");
  set_dataset_pipeline(*dataset, pipeline->value);
}

}  // namespace

void set_device(Config& tree, const std::optional<std::string>& device) {
  if (!device) return;
  auto* environment = tree.find("env_cfg");
  if (!environment || !environment->value.is_map()) {
    tree.set("env_cfg", parse_config("{}", "--device"));
    environment = tree.find("env_cfg");
  }
  set_option(environment->value, "device", device, "--device");
}

void apply_options(Config& tree, const TrainOptions& options) {
  set_option(tree, "work_dir", options.work_dir, "--work-dir");
  set_option(tree, "launcher", options.launcher, "--launcher");
  set_device(tree, options.device);
  if (options.resume) {
    tree.set("resume", option_value(Config::of(true), "--resume"));
    // As in MMEngine, `--resume` alone takes the newest checkpoint and ignores load_from.
    tree.set("load_from",
             option_value(options.resume_from ? Config::of(*options.resume_from) : Config::null(),
                          "--resume"));
  }
  if (options.reset_schedule) {
    tree.set("reset_schedule", option_value(Config::of(true), "--reset-schedule"));
  }
  if (options.global_batch) {
    tree.set("global_batch", option_value(Config::of(*options.global_batch), "--global-batch"));
  }
  if (options.amp) {
    auto* wrapper = tree.find("optim_wrapper");
    if (wrapper && wrapper->value.is_map()) {
      wrapper->value.set("type", option_value(Config::of("AmpOptimWrapper"), "--amp"));
      if (!wrapper->value.find("loss_scale")) {
        wrapper->value.set("loss_scale", option_value(Config::of("dynamic"), "--amp"));
      }
    }
  }
}

void apply_options(Config& tree, const TestOptions& options) {
  set_option(tree, "work_dir", options.work_dir, "--work-dir");
  set_option(tree, "launcher", options.launcher, "--launcher");
  set_device(tree, options.device);
  if (options.split) test_split(tree, *options.split);
  if (options.show_dir) draw_into(tree, *options.show_dir);
  if (options.opacity) set_opacity(tree, *options.opacity);
  if (options.tta) augment_tests(tree);
}

}  // namespace seg
