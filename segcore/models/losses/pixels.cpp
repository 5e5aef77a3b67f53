#include "segcore/models/losses/pixels.hpp"

#include "segcore/models/known_labels.hpp"
#include "segcore/models/label_error.hpp"
#include "segcore/torch.hpp"

namespace seg {

void check_softmax(int64_t channels, const char* option, const std::string& instead) {
  if (channels != 1) return;
  throw OptionError(option,
                    text("a softmax over the 1 channel of the logits is always 1. Write ", instead,
                         ", or give the model 2 channels (out_channels: 2; classes: 2 in "
                         "models of smp)"));
}

namespace {

[[noreturn]] void label_error(const at::Tensor& labels, int64_t flat, int64_t value, int64_t count,
                              int64_t ignore_index) {
  const int64_t height = labels.size(1), width = labels.size(2);
  throw LabelError(
      flat / (width * height),
      text("label ", value, " at row ", flat / width % height, ", column ", flat % width,
           " of image ", flat / (width * height), " of the batch is neither in [0, ", count - 1,
           "] nor ignored (", ignore_index,
           "). Check num_classes, reduce_zero_label and the annotations"));
}

}  // namespace

void check_labels(const at::Tensor& labels, int64_t count, int64_t ignore_index,
                  bool below_zero_ignored) {
  SEG_CHECK(labels.scalar_type() == at::kLong, "labels must be int64");
  const LabelBounds bounds{count, ignore_index, below_zero_ignored};
  LabelChecks::note(bounds);
  if (labels.is_cpu()) {
    const auto whole = labels.contiguous();
    const int64_t* data = whole.const_data_ptr<int64_t>();
    for (int64_t i = 0; i < whole.numel(); ++i) {
      if (!bounds.fits(data[i])) label_error(labels, i, data[i], count, ignore_index);
    }
    return;
  }
  if (KnownLabels::all_fit(bounds)) return;
  auto wrong = labels >= count;
  if (!below_zero_ignored) wrong = wrong.logical_or_(labels < 0);
  wrong = wrong.logical_and_(labels != ignore_index);
  if (!wrong.any().item<bool>()) return;
  const int64_t flat = wrong.reshape({-1}).to(at::kByte).argmax().item<int64_t>();
  label_error(labels, flat, labels.reshape({-1})[flat].item<int64_t>(), count, ignore_index);
}

void check_shapes(const at::Tensor& logits, const at::Tensor& labels) {
  SEG_CHECK(logits.dim() == 4 && labels.dim() == 3 && logits.size(0) == labels.size(0) &&
                logits.size(2) == labels.size(1) && logits.size(3) == labels.size(2),
            "logits ", logits.sizes(), " do not fit labels ", labels.sizes());
}

at::Tensor channel_labels(const at::Tensor& labels, std::optional<int64_t> ignore_index) {
  const auto others = (labels != 1).to(at::kLong);
  return ignore_index ? others.masked_fill(labels == *ignore_index, -1) : others;
}

at::Tensor at_labels(const at::Tensor& values, const at::Tensor& labels, const at::Tensor& mask) {
  return values.gather(1, labels.masked_fill(~mask, 0).unsqueeze(1)).squeeze(1);
}

at::Tensor reduce_loss(at::Tensor loss, const at::Tensor& weight, const std::string& reduction) {
  if (weight.defined()) loss = loss * weight;
  return reduction == "sum" ? loss.sum() : loss.mean();
}

}  // namespace seg
