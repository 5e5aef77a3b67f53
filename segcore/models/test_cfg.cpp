#include "segcore/models/test_cfg.hpp"

namespace seg {

Schema<TestCfg> TestCfg::schema() {
  return Schema<TestCfg>("How images are predicted.")
      .optional("mode", &TestCfg::mode,
                "the whole image at once, by a sliding window, or by one whose logits are the mean "
                "of each window's and its mirror image's",
                one_of({"whole", "slide", "slide_flip"}))
      .optional("crop_size", &TestCfg::crop_size, "height and width of the window",
                sides_at_least(1))
      .optional("stride", &TestCfg::stride, "steps of the window, down and right",
                sides_at_least(1))
      .optional("batch", &TestCfg::batch,
                "windows beside each other that are predicted at once: more use a GPU better and "
                "take more of its memory",
                at_least(1))
      .optional("subdivision_steps", &TestCfg::subdivision_steps,
                "refinements of a head that samples points", at_least(0))
      .optional("subdivision_num_points", &TestCfg::subdivision_num_points,
                "points that each refinement visits", at_least(1))
      .optional("scale_factor", &TestCfg::scale_factor, "enlargement by each refinement", above(0))
      .accepted("rescale", "has no effect: predictions always have the original shape")
      .accepted("panoptic_on", "predictions are semantic")
      .accepted("semantic_on", "predictions are semantic")
      .accepted("instance_on", "predictions are semantic")
      .accepted("max_per_image", "concerns instances")
      .accepted("iou_thr", "concerns instances")
      .accepted("filter_low_score", "concerns instances")
      .accepted("size_divisor", "has no effect here: it belongs to the preprocessor's test_cfg")
      .validate([](const TestCfg& cfg, Problems& problems) {
        if (cfg.slides()) {
          const std::string needed = text("is needed by mode '", cfg.mode, "'");
          if (!cfg.crop_size) problems.error("crop_size", needed);
          if (!cfg.stride) problems.error("stride", needed);
        }
        if (cfg.crop_size && cfg.stride &&
            (cfg.stride->h > cfg.crop_size->h || cfg.stride->w > cfg.crop_size->w)) {
          problems.error("stride",
                         "is larger than crop_size: pixels between windows have no scores");
        }
      });
}

}  // namespace seg
