#include "segcore/models/segmentors/logit_segmentor.hpp"

#include <algorithm>

#include "segcore/torch.hpp"

namespace seg {

LogitSegmentor::LogitSegmentor(const InitCfg& init_cfg, const std::optional<TestCfg>& test_cfg,
                               const std::optional<Spec<DataPreProcessor>>& data_preprocessor)
    : Segmentor(init_cfg), test_cfg_(test_cfg.value_or(TestCfg{})) {
  data_preprocessor_ = data_preprocessor
                           ? data_preprocessor->build()
                           : Spec<DataPreProcessor>::of("{type: SegDataPreProcessor}").build();
}

torch::Tensor LogitSegmentor::full_size_logits(const torch::Tensor& images) {
  return resize(logits(images), map_size(images), align_corners());
}

torch::Tensor LogitSegmentor::encode_decode(const torch::Tensor& images) {
  return output(full_size_logits(images));
}

torch::Tensor LogitSegmentor::slide(const torch::Tensor& images) {
  const Size2 size = map_size(images);
  const Size2 crop = *test_cfg_.crop_size;
  const Size2 stride = *test_cfg_.stride;
  const int64_t rows = std::max<int64_t>(size.h - crop.h + stride.h - 1, 0) / stride.h + 1;
  const int64_t columns = std::max<int64_t>(size.w - crop.w + stride.w - 1, 0) / stride.w + 1;
  torch::Tensor sum;
  auto count = torch::zeros({1, 1, size.h, size.w}, images.options());
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < columns; ++column) {
      // The last window of a row or column is shifted back inside.
      const int64_t bottom = std::min(row * stride.h + crop.h, size.h);
      const int64_t right = std::min(column * stride.w + crop.w, size.w);
      const int64_t top = std::max<int64_t>(bottom - crop.h, 0);
      const int64_t left = std::max<int64_t>(right - crop.w, 0);
      const auto window = [&](const torch::Tensor& x) {
        return x.narrow(2, top, bottom - top).narrow(3, left, right - left);
      };
      const auto scores = full_size_logits(window(images));
      if (!sum.defined()) {
        sum = torch::zeros({images.size(0), scores.size(1), size.h, size.w}, scores.options());
        count = count.to(scores.scalar_type());
      }
      window(sum).add_(scores);
      window(count).add_(1);
    }
  }
  return sum.div_(count);
}

torch::Tensor LogitSegmentor::inference(const torch::Tensor& images) {
  return output(slides() ? slide(images) : full_size_logits(images));
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

std::vector<LogitRows> LogitSegmentor::full_size_rows(const ModelInput& input) {
  auto scores = slides() ? slide(input.images) : logits(input.images);
  // Half precision would lose the order of near classes in the interpolation.
  if (scores.scalar_type() != torch::kDouble) scores = scores.to(torch::kFloat32);
  std::vector<LogitRows> out;
  for (int64_t i = 0; i < scores.size(0); ++i) {
    out.emplace_back(scores[i], geometry(input, static_cast<size_t>(i)));
  }
  return out;
}

std::vector<torch::Tensor> LogitSegmentor::predict(const ModelInput& input) {
  std::vector<torch::Tensor> out;
  for (auto& rows : full_size_rows(input)) {
    out.push_back(resize_argmax(rows, threshold()));
  }
  return out;
}

std::vector<torch::Tensor> LogitSegmentor::predict_tta(const std::vector<ModelInput>& augmented) {
  std::vector<std::vector<LogitRows>> by_image;
  for (const auto& input : augmented) {
    auto rows = full_size_rows(input);
    by_image.resize(std::max(by_image.size(), rows.size()));
    for (size_t i = 0; i < rows.size(); ++i) by_image[i].push_back(std::move(rows[i]));
  }
  std::vector<torch::Tensor> out;
  for (const auto& sources : by_image) {
    out.push_back(resize_argmax_mean(sources, threshold()));
  }
  return out;
}

}  // namespace seg
