#include <filesystem>

#include "runners/hooks/hook.hpp"
#include "runners/hooks/run_context.hpp"
#include "runners/start/run_config.hpp"
#include "segcore/evaluation/pictures.hpp"
#include "segcore/image/image_io.hpp"

namespace fs = std::filesystem;

namespace seg {

struct SegVisualizationHookParams : HookParams {
  bool draw = false;
  int64_t interval = 50;
  bool show = false;
  std::optional<std::string> out_dir;
};

/// Draws predictions of validations and tests: image, truth and prediction side by side.
class SegVisualizationHook final : public Hook {
 public:
  using Params = SegVisualizationHookParams;
  static Schema<Params> schema() {
    return Schema<Params>("Draws predictions beside their images.")
        .source("MMSegmentation 1.2, SegVisualizationHook")
        .include(HookParams::schema())
        .optional("draw", &Params::draw, "whether anything is drawn")
        .optional("interval", &Params::interval, "batches between two that are drawn", at_least(1))
        .optional("show", &Params::show, "has no effect: there is no window to show pictures in")
        .optional("out_dir", &Params::out_dir,
                  "folder for <name of the image>.png; with the other records where not given")
        .accepted("wait_time", "there is no window to show pictures in")
        .accepted("backend_args", "images are local files");
  }
  explicit SegVisualizationHook(const Params& params)
      : Hook(params, Priority::kNormal), params_(params) {}

  void after_iter(RunContext& context) override {
    if (!params_.draw || context.phase == Phase::kTrain) return;
    if ((context.batch_index + 1) % params_.interval != 0) return;
    size_t image = 0;
    for (const PackedSample& sample : context.batch->samples) {
      // Augmentations of one image have one prediction.
      if (sample.meta.variant > 0) continue;
      draw(context, sample, context.predictions->at(image++));
    }
  }

 private:
  void draw(const RunContext& context, const PackedSample& sample,
            const at::Tensor& prediction) const {
    const Dataset& dataset = *context.eval_dataset;
    const Sample raw = dataset.with_image(static_cast<size_t>(sample.meta.index));
    const cv::Mat image = displayable(raw.image);
    const Palette palette =
        palette_or_default(dataset.meta().palette, context.model->num_classes());
    const double alpha = context.visualizer->alpha();
    std::vector<cv::Mat> pictures{image};
    if (sample.labels.defined()) {
      pictures.push_back(overlay(image, sample.labels.cpu(), palette, alpha));
    }
    pictures.push_back(overlay(image, prediction.cpu(), palette, alpha));
    const cv::Mat picture = side_by_side(pictures);
    const std::string stem = fs::path(sample.meta.img_path).stem().string();
    if (params_.out_dir) {
      write_image(*params_.out_dir + "/" + stem + ".png", picture);
    } else if (context.is_main()) {
      context.visualizer->add_image(text(phase_name(context.phase), '_', stem), picture,
                                    context.iter);
    }
  }

  Params params_;
};
SEG_REGISTER(Hook, SegVisualizationHook);

}  // namespace seg
