#include <optional>
#include <vector>

#include "runners/visualization/visualizer.hpp"

namespace seg {

struct SegLocalVisualizerParams {
  std::string name = "visualizer";
  std::optional<std::vector<Spec<VisBackend>>> vis_backends;
  std::optional<std::string> save_dir;
  double alpha = 0.8;
};

/// Passes values and pictures to each of its back ends.
class SegLocalVisualizer final : public Visualizer {
 public:
  using Params = SegLocalVisualizerParams;
  static Schema<Params> schema() {
    return Schema<Params>("Records a run in one or more back ends.")
        .source("MMSegmentation 1.2, SegLocalVisualizer")
        .optional("name", &Params::name, "name of this visualizer")
        .optional("vis_backends", &Params::vis_backends, "where to record; nowhere if null")
        .optional("save_dir", &Params::save_dir, "folder of the records; null: the run's")
        .optional("alpha", &Params::alpha,
                  "how strongly the colours of classes cover the image, 0 to 1", in_range(0, 1))
        .accepted("image", "pictures are drawn from the data set")
        .accepted("classes", "classes come from the data set")
        .accepted("palette", "colours come from the data set")
        .accepted("dataset_name", "classes and colours come from the data set")
        .accepted("fig_save_cfg", "pictures are drawn without matplotlib")
        .accepted("fig_show_cfg", "there are no windows");
  }
  SegLocalVisualizer(const Params& params, const VisPlace& place) : alpha_(params.alpha) {
    VisPlace mine = place;
    if (params.save_dir) mine.folder = *params.save_dir + "/vis_data";
    if (!params.vis_backends) return;
    for (const Spec<VisBackend>& spec : *params.vis_backends)
      back_ends_.push_back(spec.build(mine));
  }
  void add_config(const std::string& yaml) override {
    for (const auto& b : back_ends_) b->add_config(yaml);
  }
  void add_scalars(const Scalars& scalars, int64_t step) override {
    for (const auto& b : back_ends_) b->add_scalars(scalars, step);
  }
  void add_image(const std::string& name, const cv::Mat& image, int64_t step) override {
    for (const auto& b : back_ends_) b->add_image(name, image, step);
  }
  void flush() override {
    for (const auto& b : back_ends_) b->flush();
  }
  double alpha() const override { return alpha_; }

 private:
  std::vector<std::unique_ptr<VisBackend>> back_ends_;
  double alpha_;
};
SEG_REGISTER(Visualizer, SegLocalVisualizer);
// MMEngine's base class, which leaves pictures of predictions to derived ones.
SEG_REGISTER_AS(Visualizer, SegLocalVisualizer, "Visualizer");

}  // namespace seg
