#include <ATen/ATen.h>

#include <mutex>
#include <opencv2/core.hpp>
#include <vector>

#include "segcore/data/label_size.hpp"
#include "segcore/data/soft_predictions.hpp"
#include "segcore/data/transform.hpp"

namespace seg {

struct LoadSoftPredictionsParams {
  std::vector<std::string> models;
};

namespace {

/// Two-stage ensembles: what several models predict for an image, in the place of its pixels.
class LoadSoftPredictions final : public Transform {
 public:
  using Params = LoadSoftPredictionsParams;
  static Schema<Params> schema() {
    return Schema<Params>(
               "The probabilities that models predicted for the image, stacked in the place of its "
               "pixels: as many bands as all models have classes.")
        .required("models", &Params::models,
                  "of each model the file that 'tools/test --out-probs' wrote for these images")
        .validate([](const Params& p, Problems& problems) {
          if (p.models.empty()) problems.error("models", "must not be empty");
        });
  }
  explicit LoadSoftPredictions(const Params& p) : p_(p) {}

  TransformTraits traits() const override { return {.loads_image = true}; }
  void apply(Sample& sample, Rng&) const override {
    // Configs are checked before the files are written.
    std::call_once(opened_, [this] {
      std::vector<SoftPredictions> models;
      for (const std::string& path : p_.models) models.emplace_back(path);
      models_ = std::move(models);
    });
    const std::vector<at::Tensor> maps = maps_of(sample);
    int64_t bands = 0;
    for (const at::Tensor& map : maps) bands += map.size(0);
    if (bands > CV_CN_MAX) {
      throw DataError(text(sample.meta.img_path, ": the predictions have ", bands,
                           " bands together, and an image holds ", CV_CN_MAX));
    }
    const int64_t height = maps[0].size(1), width = maps[0].size(2);
    sample.image.create(static_cast<int>(height), static_cast<int>(width),
                        CV_MAKETYPE(CV_32F, static_cast<int>(bands)));
    at::from_blob(sample.image.data, {height, width, bands}, at::kFloat)
        .copy_(at::cat(maps).permute({1, 2, 0}));
    sample.meta.ori_shape = sample.meta.img_shape = {height, width};
    check_label_size(sample);
  }

 private:
  /// One [C, H, W] of each model, of one size.
  std::vector<at::Tensor> maps_of(const Sample& sample) const {
    std::vector<at::Tensor> maps;
    for (const SoftPredictions& model : models_) {
      const at::Tensor* map = model.find(sample.meta.name);
      if (!map) {
        throw DataError(text(sample.meta.img_path, ": ", model.path(), " has no predictions for '",
                             sample.meta.name, "'"));
      }
      if (!maps.empty() && maps[0].sizes().slice(1) != map->sizes().slice(1)) {
        throw DataError(text(sample.meta.img_path, ": the predictions of ", model.path(), " have ",
                             map->size(1), "x", map->size(2), " pixels, those of ",
                             models_[0].path(), " ", maps[0].size(1), "x", maps[0].size(2)));
      }
      maps.push_back(*map);
    }
    return maps;
  }

  Params p_;
  mutable std::once_flag opened_;
  mutable std::vector<SoftPredictions> models_;
};
SEG_REGISTER(Transform, LoadSoftPredictions);

}  // namespace
}  // namespace seg
