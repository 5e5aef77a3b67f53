/// The operator segcore::resize_argmax: class ids at full size from small logits, without ever
/// holding the full-size logits of all classes at once. Class ids have no gradient, so there is no
/// autograd kernel.
#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <optional>
#include <string>
#include <vector>

namespace seg {

/// How the logits of one image become logits at its original shape: enlarged to the padded input,
/// padding cut off at the right and below, flip undone, resized. All resizing is bilinear.
struct LogitsGeometry {
  std::array<int64_t, 2> input{};     ///< height and width that the model saw, padding included
  std::array<int64_t, 2> unpadded{};  ///< of these, without padding
  std::array<int64_t, 2> original{};  ///< of the result
  bool flip_horizontal = false, flip_vertical = false;
  bool align_corners = false;
};

/// From the arguments of the operator.
/// \throws seg::Error where a size is not a positive height and width.
LogitsGeometry logits_geometry(at::IntArrayRef input, at::IntArrayRef unpadded,
                               at::IntArrayRef original, bool flip_horizontal, bool flip_vertical,
                               bool align_corners);

/// The two rows of the padded input that row `y` of the result is interpolated from, or one row
/// twice. Both are non-decreasing in y. Not for flip_vertical.
/// \param wide  the logits are in double precision.
std::array<int64_t, 2> input_rows_of(const LogitsGeometry& geometry, int64_t y, bool wide);

/// Logits of one image, resized to full size a few rows at a time. Not thread-safe.
class LogitRows {
 public:
  /// \param logits  float [C, h, w], of any size.
  LogitRows(const at::Tensor& logits, const LogitsGeometry& geometry);
  /// A band of logits at the size of the padded input. Only those rows of the result that are
  /// interpolated from the band may be requested.
  /// \param first_row  row of the padded input that the first row of the logits is.
  LogitRows(const at::Tensor& logits, const LogitsGeometry& geometry, int64_t first_row);
  /// Rows begin <= y < end of the logits at the original shape, float [C, end - begin, W].
  at::Tensor rows(int64_t begin, int64_t end) const;
  int64_t height() const { return geometry_.original[0]; }
  int64_t width() const { return geometry_.original[1]; }
  int64_t channels() const { return logits_.size(0); }
  const at::Tensor& logits() const { return logits_; }
  const LogitsGeometry& geometry() const { return geometry_; }
  /// Set for a band of rows.
  std::optional<int64_t> first_row() const { return first_row_; }

 private:
  /// [C, h, W]: already as wide as the result.
  const at::Tensor& columns() const;

  at::Tensor logits_;
  LogitsGeometry geometry_;
  std::optional<int64_t> first_row_;
  mutable at::Tensor columns_;  ///< computed on first use
};

/// The class of each pixel: the channel with the largest logit, or for one channel whether its
/// sigmoid is above a threshold.
/// \param logits  float [C, h, w]
/// \return int64 [h, w]
at::Tensor classes_of(const at::Tensor& logits, double threshold);

/// Probabilities averaged over several logits of the same pixels: softmax over the channels, or the
/// sigmoid of a single channel.
/// \param logits  each float [C, h, w]
/// \return float [C, h, w]
at::Tensor mean_scores(const std::vector<at::Tensor>& logits);
/// The classes of these probabilities, int64 [h, w].
at::Tensor classes_of_mean(const std::vector<at::Tensor>& logits, double threshold);

/// Classes of an image, int64 [H, W], on the device of the logits: calls the operator, or for a
/// band of rows, which the operator does not take, its definition.
at::Tensor resize_argmax(const LogitRows& source, double threshold);
/// The definition by ATen operators, strip by strip; the kernel of all devices that have no other.
at::Tensor composed_resize_argmax(const LogitRows& source, double threshold);

/// Classes from several sets of logits of one image, whose probabilities are averaged first.
/// \return int64 [H, W]
at::Tensor resize_argmax_mean(const std::vector<LogitRows>& sources, double threshold);

/// Probabilities of an image at full size, averaged over several sets of logits.
/// \return float [C, H, W]
at::Tensor resize_scores_mean(const std::vector<LogitRows>& sources);

}  // namespace seg
