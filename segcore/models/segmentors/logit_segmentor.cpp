#include "segcore/models/segmentors/logit_segmentor.hpp"

#include <algorithm>
#include <utility>

#include "segcore/torch.hpp"

namespace seg {
namespace {

/// Windows along one side of an image.
struct WindowPlaces {
  int64_t side, crop, stride;

  int64_t count() const { return std::max<int64_t>(side - crop + stride - 1, 0) / stride + 1; }
  /// The last one is shifted back inside.
  int64_t begin(int64_t i) const {
    return std::max<int64_t>(std::min(i * stride + crop, side) - crop, 0);
  }
  int64_t length() const { return std::min(crop, side); }
};

/// Sums of the logits of windows, for as many rows of an image as are not done with.
class WindowBand {
 public:
  /// \param width  of the image.
  WindowBand(int64_t rows, int64_t width) : rows_(rows), width_(width) {}

  /// Adds the logits of a window, [1, C, h, w].
  void add(const torch::Tensor& logits, int64_t top, int64_t left) {
    if (!sum_.defined()) {
      sum_ = torch::zeros({logits.size(1), rows_, width_}, logits.options());
      count_ = torch::zeros({1, rows_, width_}, logits.options());
    }
    const auto window = [&](const torch::Tensor& x) {
      return x.narrow(1, top - base_, logits.size(2)).narrow(2, left, logits.size(3));
    };
    window(sum_).add_(logits[0]);
    window(count_).add_(1);
  }
  /// Rows begin <= y < end of the image, averaged: [C, end - begin, W].
  torch::Tensor mean(int64_t begin, int64_t end) const {
    const auto rows = [&](const torch::Tensor& x) {
      return x.narrow(1, begin - base_, end - begin);
    };
    return rows(sum_) / rows(count_);
  }
  /// Makes room: the rows before `row` are no more needed.
  void drop_before(int64_t row) {
    const int64_t step = std::min(row - base_, rows_);
    base_ = row;
    if (step == 0) return;
    for (torch::Tensor* x : {&sum_, &count_}) {
      // Upwards by `step` rows, so many at a time that none is read after it was written.
      for (int64_t to = 0; to + step < rows_; to += step) {
        const int64_t n = std::min(step, rows_ - to - step);
        x->narrow(1, to, n).copy_(x->narrow(1, to + step, n));
      }
      x->narrow(1, rows_ - step, step).zero_();
    }
  }
  int64_t channels() const { return sum_.size(0); }
  bool wide() const { return sum_.scalar_type() == torch::kDouble; }

 private:
  int64_t rows_, width_, base_ = 0;  ///< base_: row of the image that the first of the band is
  torch::Tensor sum_, count_;
};

}  // namespace

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
  const WindowPlaces down{size.h, crop.h, stride.h}, across{size.w, crop.w, stride.w};
  torch::Tensor sum;
  auto count = torch::zeros({1, 1, size.h, size.w}, images.options());
  for (int64_t row = 0; row < down.count(); ++row) {
    for (int64_t column = 0; column < across.count(); ++column) {
      const auto window = [&](const torch::Tensor& x) {
        return x.narrow(2, down.begin(row), down.length())
            .narrow(3, across.begin(column), across.length());
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

torch::Tensor LogitSegmentor::predict_windows(const ModelInput& input, Size2 crop, Size2 stride) {
  const torch::Tensor& images = input.images;
  SEG_CHECK(images.size(0) == 1, "expected one image, got ", images.size(0));
  const Size2 size = map_size(images);
  LogitsGeometry g = geometry(input, 0);
  // Resizing is symmetric: the result is flipped at the end, so that its rows come in order.
  const bool upside_down = std::exchange(g.flip_vertical, false);
  const int64_t height = g.original[0];
  const WindowPlaces down{size.h, crop.h, stride.h}, across{size.w, crop.w, stride.w};
  // A row of the result may lie between the last that is done and the first that is not.
  WindowBand band(down.length() + 1, size.w);
  constexpr int64_t kElements = 8 * 1024 * 1024;  // of the rows that are resized at once
  torch::Tensor ids;
  int64_t written = 0;  // rows of the result
  for (int64_t row = 0; row < down.count() && written < height; ++row) {
    const int64_t top = down.begin(row);
    for (int64_t column = 0; column < across.count(); ++column) {
      const int64_t left = across.begin(column);
      band.add(
          full_size_logits(images.narrow(2, top, down.length()).narrow(3, left, across.length())),
          top, left);
    }
    // No later window reaches the rows above the next one.
    const int64_t done = row + 1 < down.count() ? down.begin(row + 1) : size.h;
    const auto rows_of = [&](int64_t y) { return input_rows_of(g, y, band.wide()); };
    while (written < height && rows_of(written)[1] < done) {
      const int64_t first = rows_of(written)[0];
      const int64_t most =
          std::max<int64_t>(1, kElements / (band.channels() * std::max(size.w, g.original[1])));
      int64_t end = written + 1;
      while (end < height && end - written < most && rows_of(end)[1] < done &&
             rows_of(end)[1] - first < most) {
        ++end;
      }
      auto mean = band.mean(first, rows_of(end - 1)[1] + 1);
      // Half precision would lose the order of near classes in the interpolation.
      if (mean.scalar_type() != torch::kDouble) mean = mean.to(torch::kFloat32);
      const auto classes = classes_of(LogitRows(mean, g, first).rows(written, end), threshold());
      if (!ids.defined()) ids = torch::empty({height, g.original[1]}, classes.options());
      ids.narrow(0, written, end - written).copy_(classes);
      written = end;
    }
    if (written < height) band.drop_before(std::min(rows_of(written)[0], done));
  }
  return upside_down ? ids.flip(0) : ids;
}

std::vector<std::vector<LogitRows>> LogitSegmentor::rows_by_image(
    const std::vector<ModelInput>& augmented) {
  std::vector<std::vector<LogitRows>> by_image;
  for (const auto& input : augmented) {
    auto rows = full_size_rows(input);
    by_image.resize(std::max(by_image.size(), rows.size()));
    for (size_t i = 0; i < rows.size(); ++i) by_image[i].push_back(std::move(rows[i]));
  }
  return by_image;
}

std::vector<torch::Tensor> LogitSegmentor::predict_tta(const std::vector<ModelInput>& augmented) {
  std::vector<torch::Tensor> out;
  for (const auto& sources : rows_by_image(augmented)) {
    out.push_back(resize_argmax_mean(sources, threshold()));
  }
  return out;
}

std::vector<Prediction> LogitSegmentor::predict_scores(const std::vector<ModelInput>& augmented) {
  std::vector<Prediction> out;
  for (const auto& sources : rows_by_image(augmented)) {
    // Of one input by its logits, as predict chooses: softmax may round near classes to equal.
    out.push_back({.ids = sources.size() == 1 ? resize_argmax(sources[0], threshold())
                                              : resize_argmax_mean(sources, threshold()),
                   .scores = resize_scores_mean(sources)});
  }
  return out;
}

}  // namespace seg
