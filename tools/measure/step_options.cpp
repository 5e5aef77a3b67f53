#include "tools/measure/step_options.hpp"

#include "runners/start/device.hpp"
#include "runners/start/options.hpp"
#include "tools/common/command_line.hpp"

namespace seg {
namespace {

void apply_shape(Config& tree, const std::vector<int64_t>& shape) {
  auto* model = tree.find("model");
  auto* preprocessor = model ? model->value.find("data_preprocessor") : nullptr;
  auto* size = preprocessor ? preprocessor->value.find("size") : nullptr;
  if (shape.empty() || !size || size->value.is_null()) return;
  Config asked;
  asked.kind = Config::Kind::kList;
  for (const int64_t side : shape) asked.list.push_back(Config::of(side));
  asked.origin.file = std::make_shared<const std::string>("--shape");
  size->value = std::move(asked);
}

}  // namespace

void add_step_options(CLI::App& app, BenchmarkArguments& arguments) {
  app.add_option("config", arguments.config, "configuration file")->required();
  app.add_option("--iters", arguments.iters,
                 text("steps or batches to measure (default: ", arguments.iters, ")"))
      ->type_name("N")
      ->check(whole_number(1));
  app.add_option("--warmup", arguments.warmup,
                 text("steps or batches before (default: ", arguments.warmup, ")"))
      ->type_name("N")
      ->check(whole_number(0));
  app.add_option("--batch-size", arguments.batch_size,
                 "images of a synthetic step (default: that of train_dataloader)")
      ->type_name("N")
      ->check(whole_number(1));
  app.add_option("--shape", arguments.shape,
                 "height and width of synthetic images (default: the configuration's crop)")
      ->type_name("H W")
      ->expected(2)
      ->check(whole_number(1));
  app.add_flag("--amp", arguments.amp, "in mixed precision");
  app.add_option("--device", arguments.device,
                 "auto, cpu, cuda or cuda:1 (default: env_cfg.device)")
      ->type_name("NAME");
  add_cfg_options(app, arguments.overrides);
}

RunConfig load_measured(const BenchmarkArguments& arguments, const std::vector<int64_t>& shape,
                        const std::function<void(Config&)>& edit) {
  return load_run_config(arguments.config, arguments.overrides, [&](Config& tree) {
    TrainOptions options;
    options.amp = arguments.amp;
    apply_options(tree, options);
    apply_shape(tree, shape);
    if (edit) edit(tree);
  });
}

c10::Device measured_device(const BenchmarkArguments& arguments, const RunConfig& config) {
  return choose_device(arguments.device.empty() ? config.env_cfg.device : arguments.device,
                       /*local_rank=*/0);
}

}  // namespace seg
