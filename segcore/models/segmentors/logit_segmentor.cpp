#include "segcore/models/segmentors/logit_segmentor.hpp"

#include <algorithm>
#include <utility>

#include "segcore/precision.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

/// One image of an input.
ModelInput input_of_image(const ModelInput& input, int64_t i) {
  ModelInput out;
  out.images = input.images.narrow(0, i, 1);
  if (static_cast<size_t>(i) < input.metas.size()) {
    out.metas = {input.metas[static_cast<size_t>(i)]};
  }
  return out;
}

bool flips_alike(const ModelInput& input) {
  const auto vertical = [](const SampleMeta& meta) {
    return meta.flip && meta.flip_direction != "horizontal";
  };
  return std::ranges::all_of(
      input.metas, [&](const auto& meta) { return vertical(meta) == vertical(input.metas[0]); });
}

std::vector<Prediction> class_predictions(std::vector<torch::Tensor> ids) {
  std::vector<Prediction> out;
  for (auto& one : ids) out.push_back({.ids = std::move(one)});
  return out;
}

}  // namespace

LogitSegmentor::LogitSegmentor(const InitCfg& init_cfg, const std::optional<TestCfg>& test_cfg,
                               const std::optional<Spec<DataPreProcessor>>& data_preprocessor)
    : Segmentor(init_cfg), test_cfg_(test_cfg.value_or(TestCfg{})) {
  data_preprocessor_ = data_preprocessor
                           ? data_preprocessor->build()
                           : Spec<DataPreProcessor>::of("{type: SegDataPreProcessor}").build();
}

/// Half precision would lose the order of near classes in the interpolation.
torch::Tensor LogitSegmentor::encode_decode(const torch::Tensor& images) {
  return output(resize(full_precision(logits(images, {})), map_size(images), align_corners()));
}

SlidingLogits LogitSegmentor::slide(const torch::Tensor& images, const Categories& categories,
                                    Size2 crop, Size2 stride, bool upwards) {
  const auto of_windows = [this, categories](const torch::Tensor& windows) {
    Categories of_each;
    while (!categories.empty() && std::ssize(of_each) < windows.size(0)) {
      of_each.insert(of_each.end(), categories.begin(), categories.end());
    }
    SlidingLogits::WindowLogits out{.align_corners = align_corners()};
    // Half precision would lose the order of near classes in the interpolation.
    const auto add = [&](const torch::Tensor& images_of, bool mirrored) {
      out.maps.push_back(full_precision(logits(images_of, of_each)));
      out.mirrored.push_back(mirrored);
    };
    add(windows, false);
    if (test_cfg_.flips()) add(windows.flip({3}), true);
    return out;
  };
  return {of_windows, images, crop, stride, test_cfg_.batch, upwards};
}

torch::Tensor LogitSegmentor::slid_logits(const torch::Tensor& images, const Categories& categories,
                                          Size2 crop, Size2 stride) {
  auto rows = slide(images, categories, crop, stride);
  std::vector<torch::Tensor> strips;
  for (int64_t begin = 0; !rows.done(); begin = rows.final_rows()) {
    rows.advance();
    strips.push_back(rows.mean(begin, rows.final_rows()));
  }
  return at::cat(strips, 2);
}

torch::Tensor LogitSegmentor::inference(const torch::Tensor& images) {
  if (!test_cfg_.slides()) return encode_decode(images);
  return output(slid_logits(images, {}, *test_cfg_.crop_size, *test_cfg_.stride));
}

LogitsGeometry LogitSegmentor::geometry(const ModelInput& input, size_t i) const {
  LogitsGeometry g;
  g.input = {input.images.size(2), input.images.size(3)};
  g.unpadded = g.original = g.input;
  g.align_corners = align_corners();
  if (i >= input.metas.size()) return g;
  const auto& meta = input.metas[i];
  const auto known = [](const std::array<int64_t, 2>& shape) {
    return shape[0] > 0 && shape[1] > 0;
  };
  if (known(meta.img_shape)) {
    g.unpadded = {std::min(meta.img_shape[0], g.input[0]), std::min(meta.img_shape[1], g.input[1])};
  }
  g.original = known(meta.ori_shape) ? meta.ori_shape : g.unpadded;
  g.flip_horizontal = meta.flip && meta.flip_direction != "vertical";
  g.flip_vertical = meta.flip && meta.flip_direction != "horizontal";
  return g;
}

std::vector<LogitRows> LogitSegmentor::rows_of(torch::Tensor raw, const ModelInput& input) const {
  raw = full_precision(raw);
  std::vector<LogitRows> out;
  for (int64_t i = 0; i < raw.size(0); ++i) {
    out.emplace_back(raw[i], geometry(input, static_cast<size_t>(i)));
  }
  return out;
}

std::vector<LogitRows> LogitSegmentor::rows(const ModelInput& input) {
  if (test_cfg_.slides()) return rows(input, *test_cfg_.crop_size, *test_cfg_.stride);
  return rows_of(logits(input.images, categories_of(input.metas)), input);
}

std::vector<LogitRows> LogitSegmentor::rows(const ModelInput& input, Size2 crop, Size2 stride) {
  return rows_of(slid_logits(input.images, categories_of(input.metas), crop, stride), input);
}

std::vector<torch::Tensor> LogitSegmentor::predict_strips(const std::vector<ModelInput>& augmented,
                                                          Size2 crop, Size2 stride) {
  std::vector<SlidImages> sources;
  for (const auto& input : augmented) {
    std::vector<LogitsGeometry> geometries;
    bool upwards = false;
    for (int64_t i = 0; i < input.images.size(0); ++i) {
      geometries.push_back(geometry(input, static_cast<size_t>(i)));
      // Rows of the result have to come in order: those of a flipped image are read from its end.
      upwards = std::exchange(geometries.back().flip_vertical, false);
    }
    sources.push_back({slide(input.images, categories_of(input.metas), crop, stride, upwards),
                       std::move(geometries)});
  }
  return classes_by_strips(std::move(sources), threshold());
}

std::vector<Prediction> LogitSegmentor::predict(const ModelInput& input) {
  std::vector<Prediction> out;
  if (!test_cfg_.slides()) {
    for (const auto& one : rows(input)) out.push_back({.ids = resize_argmax(one, threshold())});
    return out;
  }
  const Size2 crop = *test_cfg_.crop_size, stride = *test_cfg_.stride;
  if (flips_alike(input)) return class_predictions(predict_strips({input}, crop, stride));
  for (int64_t i = 0; i < input.images.size(0); ++i) {
    out.push_back({.ids = predict_strips({input_of_image(input, i)}, crop, stride).at(0)});
  }
  return out;
}

Prediction LogitSegmentor::predict_windows(const ModelInput& input, Size2 crop, Size2 stride) {
  SEG_CHECK(input.images.size(0) == 1, "expected one image, got ", input.images.size(0));
  return {.ids = predict_strips({input}, crop, stride).at(0)};
}

std::vector<Prediction> LogitSegmentor::predict_tta(const std::vector<ModelInput>& augmented) {
  SEG_CHECK(!augmented.empty(), "no images to predict");
  if (augmented.size() == 1) return predict(augmented.front());
  std::vector<Prediction> out;
  if (test_cfg_.slides()) {
    for (int64_t i = 0; i < augmented.front().images.size(0); ++i) {
      std::vector<ModelInput> of_image;
      for (const auto& input : augmented) of_image.push_back(input_of_image(input, i));
      out.push_back(
          {.ids = predict_strips(of_image, *test_cfg_.crop_size, *test_cfg_.stride).at(0)});
    }
    return out;
  }
  for (const auto& sources : rows_by_image(augmented)) {
    out.push_back({.ids = resize_argmax_mean(sources, threshold())});
  }
  return out;
}

std::vector<Prediction> LogitSegmentor::predict_scores(const std::vector<ModelInput>& augmented) {
  // The scores of an image are as large as its logits, so there is nothing to save by strips.
  std::vector<Prediction> out;
  for (const auto& sources : rows_by_image(augmented)) {
    // Of one input by its logits, as predict chooses: softmax may round near classes to equal.
    out.push_back({.ids = sources.size() == 1 ? resize_argmax(sources[0], threshold())
                                              : resize_argmax_mean(sources, threshold()),
                   .scores = resize_scores_mean(sources)});
  }
  return out;
}

std::vector<std::vector<LogitRows>> LogitSegmentor::rows_by_image(
    const std::vector<ModelInput>& augmented) {
  SEG_CHECK(!augmented.empty(), "no images to predict");
  std::vector<std::vector<LogitRows>> out(static_cast<size_t>(augmented.front().images.size(0)));
  for (const auto& input : augmented) {
    auto of_input = rows(input);
    for (size_t i = 0; i < out.size(); ++i) out[i].push_back(std::move(of_input.at(i)));
  }
  return out;
}

}  // namespace seg
