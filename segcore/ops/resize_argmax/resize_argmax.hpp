/// Class ids at full size from small logits, without ever holding the full-size logits of all
/// classes at once.
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

/// The rows of the padded input between which row `y` of the result lies; the same one twice where
/// it is one. Neither becomes less as y rises. Not for flip_vertical. \param wide  for logits in
/// double precision.
std::array<int64_t, 2> input_rows_of(const LogitsGeometry& geometry, int64_t y, bool wide);

/// Logits of one image that give their full-size rows piece by piece. Not for several threads.
class LogitRows {
 public:
  /// \param logits  float [C, h, w], of any size.
  LogitRows(const at::Tensor& logits, const LogitsGeometry& geometry);
  /// Of logits at the size of the padded input, only some rows: then only the rows of the result
  /// that lie between these can be asked for. \param first_row  of the input, which is the first
  /// row of the logits.
  LogitRows(const at::Tensor& logits, const LogitsGeometry& geometry, int64_t first_row);
  /// Rows begin <= y < end of the logits at the original shape, float [C, end - begin, W].
  at::Tensor rows(int64_t begin, int64_t end) const;
  int64_t height() const { return geometry_.original[0]; }
  int64_t width() const { return geometry_.original[1]; }
  int64_t channels() const { return logits_.size(0); }
  const at::Tensor& logits() const { return logits_; }
  const LogitsGeometry& geometry() const { return geometry_; }

 private:
  /// [C, h, W]: already as wide as the result.
  const at::Tensor& columns() const;

  at::Tensor logits_;
  LogitsGeometry geometry_;
  std::optional<int64_t> first_row_;
  mutable at::Tensor columns_;  ///< made when rows are asked for
};

/// What a pixel's class is: the best channel, or for one channel whether its sigmoid is above a
/// threshold.
/// \param logits  float [C, h, w]
/// \return int64 [h, w]
at::Tensor classes_of(const at::Tensor& logits, double threshold);

/// Classes of an image, int64 [H, W], on the device of the logits.
at::Tensor resize_argmax(const LogitRows& source, double threshold);
/// The same by LibTorch's operators, strip by strip: on CPUs, and where a GPU has no kernel for it.
at::Tensor composed_resize_argmax(const LogitRows& source, double threshold);

/// The same from several sets of logits of one image, whose probabilities (softmax, or sigmoid of
/// one channel) are averaged first.
at::Tensor resize_argmax_mean(const std::vector<LogitRows>& sources, double threshold);

}  // namespace seg
