/// Shared by losses: checks of labels, and reductions.
#pragma once
#include <ATen/core/Tensor.h>

#include <optional>
#include <string>

#include "registry/schema.hpp"
#include "segcore/precision.hpp"

namespace seg {

/// The choices of every `reduction` option. A loss logs a scalar: with "none" the mean of all
/// elements, as MMEngine takes it.
inline auto known_reduction() { return one_of({"none", "mean", "sum"}); }

/// For `check_channels` of losses that compare classes by a softmax, which is 1 for one channel.
/// \param option  that chooses the softmax, or "type".
/// \param instead  what to write where one channel is wanted.
/// \throws OptionError where there is one.
void check_softmax(int64_t channels, const char* option, const std::string& instead);

/// Rejects labels that are neither ignored nor in [0, count). On a GPU this waits for the labels,
/// unless KnownLabels shows that those of the batch fit. It knows nothing of labels that are not
/// a choice of those.
/// \param below_zero_ignored  negative labels count as ignored.
/// \throws DataError that names the value and the pixel.
void check_labels(const at::Tensor& labels, int64_t count, int64_t ignore_index,
                  bool below_zero_ignored = false);

/// \throws Error unless logits are [N, C, H, W] and labels [N, H, W].
void check_shapes(const at::Tensor& logits, const at::Tensor& labels);

/// Labels of logits with one channel, which is that of label 1, as those of channel 0: 0 there, -1
/// where they are ignored, else 1.
at::Tensor channel_labels(const at::Tensor& labels, std::optional<int64_t> ignore_index);

/// The values of dimension 1 at the labels: [N, C, H, W] -> [N, H, W]; anything outside `mask`.
at::Tensor at_labels(const at::Tensor& values, const at::Tensor& labels, const at::Tensor& mask);

/// Elements times `weight` (may be undefined), reduced by `reduction`.
at::Tensor reduce_loss(at::Tensor loss, const at::Tensor& weight, const std::string& reduction);

}  // namespace seg
