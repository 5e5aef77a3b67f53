#include "runners/hooks/hook.hpp"
#include "runners/visualization/visualizer.hpp"
#include "segcore/data/dataset.hpp"
#include "segcore/evaluation/depth_picture.hpp"
#include "segcore/evaluation/pictures.hpp"
#include "segcore/evaluation/prediction_picture.hpp"
#include "segcore/image/image_io.hpp"
#include "segcore/models/segmentor.hpp"

namespace seg {

struct SegVisualizationHookParams : HookParams {
  bool draw = false;
  int64_t interval = 50;
  bool show = false;
  std::optional<std::string> out_dir;
};

/// Draws predictions of validations and tests beside their images, labels and errors.
class SegVisualizationHook final : public Hook {
 public:
  using Params = SegVisualizationHookParams;
  static Schema<Params> schema() {
    return Schema<Params>("Draws predictions beside their images.")
        .source("MMSegmentation 1.2, SegVisualizationHook")
        .include(HookParams::schema())
        .optional("draw", &Params::draw, "draw predictions")
        .optional("interval", &Params::interval, "batches from one drawing to the next",
                  at_least(1))
        .optional("show", &Params::show, "has no effect: there is no window to show pictures in")
        .optional("out_dir", &Params::out_dir,
                  "folder for <name of the image>.png, in its subfolder; null: with the other "
                  "records")
        .accepted("wait_time", "there is no window to show pictures in")
        .accepted("backend_args", "images are local files");
  }
  explicit SegVisualizationHook(const Params& params)
      : Hook(params, Priority::kNormal), params_(params) {}

  void attach(const HookTargets& targets) override {
    model_ = targets.model;
    visualizer_ = targets.visualizer;
  }

  void after_eval_iter(const RunInfo& run, const Progress& progress, const EvalInfo& eval,
                       const EvalStep& step) override {
    if (!params_.draw || step.done() % params_.interval != 0) return;
    for (size_t i = 0; i < step.truths->size(); ++i) {
      const PackedSample& sample = (*step.truths)[i];
      const cv::Mat picture = draw(eval, sample, step.predictions->at(i));
      const std::string name = eval.dataset->output_name(static_cast<size_t>(sample.meta.index));
      if (params_.out_dir) {
        write_image(fitting_path(*params_.out_dir + "/" + name, ".png"), picture);
      } else if (run.is_main()) {
        visualizer_->add_image(text(eval.name(), '_', name), picture, progress.iter);
      }
    }
  }

 private:
  cv::Mat draw(const EvalInfo& eval, const PackedSample& sample,
               const Prediction& prediction) const {
    const Dataset& dataset = *eval.dataset;
    const Sample raw = dataset.with_image(static_cast<size_t>(sample.meta.index));
    if (prediction.depth.defined()) {
      return depth_picture(displayable(raw.image), sample.depth, prediction.depth);
    }
    const Palette palette = palette_or_default(eval.palette, model_->num_classes());
    return prediction_picture({.name = fs::path(sample.meta.img_path).filename().string(),
                               .image = displayable(raw.image),
                               .truth = sample.labels,
                               .prediction = prediction.ids,
                               .palette = &palette,
                               .classes = &dataset.meta().classes,
                               .ignore_index = eval.ignore_index,
                               .opacity = visualizer_->alpha()});
  }

  Params params_;
  const Segmentor* model_ = nullptr;
  Visualizer* visualizer_ = nullptr;
};
SEG_REGISTER(Hook, SegVisualizationHook);

}  // namespace seg
