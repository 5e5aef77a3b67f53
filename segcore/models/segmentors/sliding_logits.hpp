/// Logits of large images by a sliding window, of which few rows are held at a time.
#pragma once
#include <functional>
#include <vector>

#include "segcore/models/nn/base_module.hpp"

namespace seg {

/// Slides a window over images of one size and averages the logits where windows overlap.
///
/// It goes from one side of the images to the other and holds only the rows that the windows reach.
/// Sums and means are float32, or double for logits in double.
class SlidingLogits {
 public:
  /// Logits of any size, which are resized bilinearly to the windows: [k * N, C, h, w] of k windows
  /// of each of the N images, window after window. Several are averaged.
  struct WindowLogits {
    std::vector<torch::Tensor> maps;  ///< at least one
    std::vector<bool> mirrored;       ///< of each map: left and right are to be swapped
    bool align_corners = false;
  };
  /// Of [k * N, bands, h, w].
  using OfWindows = std::function<WindowLogits(const torch::Tensor&)>;

  /// \param crop, stride  size of the window and its steps. The last window along a side is moved
  ///                      back inside the image; one that is larger is cut to it.
  /// \param batch  windows of each image that are predicted at once, at most.
  /// \param upwards  goes from the last row to the first: rows are counted from the end, and come
  ///                 upside down.
  SlidingLogits(OfWindows of_windows, torch::Tensor images, Size2 crop, Size2 stride,
                int64_t batch = 1, bool upwards = false);

  /// Adds the next row of windows. Rows that were final before are dropped, but for the last one.
  void advance();
  /// Rows 0 <= y < final_rows() have all of their windows; the height of the images at the end.
  int64_t final_rows() const { return final_; }
  bool done() const { return final_ == height_; }
  /// Final rows begin <= y < end, not dropped yet: [N, C, end - begin, W].
  torch::Tensor mean(int64_t begin, int64_t end) const;
  /// Those of one image alone: [C, end - begin, W].
  torch::Tensor mean_of(int64_t image, int64_t begin, int64_t end) const;
  bool upwards() const { return upwards_; }
  /// Known after the first row of windows.
  int64_t channels() const { return sum_.size(1); }
  bool wide() const { return sum_.scalar_type() == torch::kDouble; }

 private:
  /// \param first  image of the window's logits.
  void add(const WindowLogits& logits, int64_t first, int64_t top, int64_t left);
  void begin_sums(const torch::Tensor& logits);
  void drop_before(int64_t row);
  torch::Tensor held(const torch::Tensor& x, int64_t begin, int64_t end) const;

  OfWindows of_windows_;
  torch::Tensor images_;
  int64_t height_;
  std::vector<int64_t> tops_, lefts_;  ///< of the windows; tops_ are counted as rows are
  Size2 window_;
  int64_t batch_;
  bool upwards_;
  size_t next_ = 0;  ///< of tops_
  int64_t final_ = 0;
  torch::Tensor sum_, count_;  ///< [N, C, rows, W] and [1, 1, rows, W]
  int64_t base_ = 0;           ///< the first row that is held
};

}  // namespace seg
