/// A whole run that is small enough for tests: a transformer of two narrow stages on drawn shapes,
/// with random augmentation, dropout and stochastic depth.
#pragma once
#include <cstring>
#include <string>

#include "segcore/io/value.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg::test {

inline const char* tiny_run_yaml() {
  return R"(
model:
  type: EncoderDecoder
  data_preprocessor:
    type: SegDataPreProcessor
    mean: [123.675, 116.28, 103.53]
    std: [58.395, 57.12, 57.375]
    bgr_to_rgb: true
    size: [32, 32]
    seg_pad_val: 255
  backbone:
    type: MixVisionTransformer
    embed_dims: 8
    num_stages: 2
    num_layers: [1, 1]
    num_heads: [1, 2]
    patch_sizes: [7, 3]
    strides: [4, 2]
    sr_ratios: [2, 1]
    out_indices: [0, 1]
    mlp_ratio: 2
    drop_rate: 0.1
    drop_path_rate: 0.3
  decode_head:
    type: SegformerHead
    in_channels: [8, 16]
    in_index: [0, 1]
    channels: 8
    dropout_ratio: 0.1
    num_classes: 5
    norm_cfg: {type: BN}
    align_corners: false
    loss_decode: {type: CrossEntropyLoss, use_sigmoid: false, loss_weight: 1.0}
  test_cfg: {mode: whole}
train_dataloader:
  batch_size: 3
  num_workers: 2
  sampler: {type: InfiniteSampler, shuffle: true}
  dataset:
    type: SyntheticShapesDataset
    num_samples: 10
    size: [40, 40]
    pipeline:
    - {type: RandomResize, scale: [40, 40], ratio_range: [0.8, 1.5], keep_ratio: true}
    - {type: RandomCrop, crop_size: [32, 32], cat_max_ratio: 0.75}
    - {type: RandomFlip, prob: 0.5}
    - {type: PhotoMetricDistortion}
    - {type: PackSegInputs}
val_dataloader: &val
  batch_size: 2
  num_workers: 1
  sampler: {type: DefaultSampler, shuffle: false}
  dataset:
    type: SyntheticShapesDataset
    num_samples: 5
    size: [32, 32]
    seed: 1
    pipeline: [{type: PackSegInputs}]
test_dataloader: *val
val_evaluator: {type: IoUMetric, iou_metrics: [mIoU]}
test_evaluator: {type: IoUMetric, iou_metrics: [mIoU]}
optim_wrapper:
  type: OptimWrapper
  optimizer: {type: AdamW, lr: 0.003, weight_decay: 0.01}
  clip_grad: {max_norm: 1.0}
  paramwise_cfg: {norm_decay_mult: 0.0}
param_scheduler:
- {type: LinearLR, start_factor: 0.01, begin: 0, end: 4, by_epoch: false}
- {type: PolyLR, eta_min: 0.0, power: 0.9, begin: 4, end: 12, by_epoch: false}
train_cfg: {type: IterBasedTrainLoop, max_iters: 12, val_interval: 6}
val_cfg: {type: ValLoop}
test_cfg: {type: TestLoop}
default_hooks:
  logger: {type: LoggerHook, interval: 1, log_metric_by_epoch: false}
  checkpoint: {type: CheckpointHook, by_epoch: false, interval: 4, save_best: mIoU}
custom_hooks:
- {type: EMAHook, momentum: 0.1}
visualizer: {type: SegLocalVisualizer, vis_backends: [{type: LocalVisBackend}]}
log_processor: {by_epoch: false}
randomness: {seed: 3, deterministic: true}
env_cfg: {device: cpu}
)";
}

/// "" where two values are equal, bit for bit in tensors; else the path of the first difference.
inline std::string first_difference(const Value& a, const Value& b, const std::string& path = "") {
  if (a.kind_text() != b.kind_text()) return path + ": " + a.kind_text() + ", " + b.kind_text();
  if (a.is_dict()) {
    if (a.as_dict().size() != b.as_dict().size()) return path + ": sizes differ";
    for (size_t i = 0; i < a.as_dict().size(); ++i) {
      const auto& [key, value] = a.as_dict()[i];
      const auto& [other_key, other] = b.as_dict()[i];
      const std::string name = key.is_string() ? key.as_string()
                               : key.is_int()  ? std::to_string(key.as_int())
                                               : "?";
      if (std::string found = first_difference(key, other_key, path + " key " + name);
          !found.empty()) {
        return found;
      }
      if (std::string found = first_difference(value, other, path + "." + name); !found.empty()) {
        return found;
      }
    }
    return "";
  }
  if (a.is_list() || a.is_tuple()) {
    if (a.as_list().size() != b.as_list().size()) return path + ": lengths differ";
    for (size_t i = 0; i < a.as_list().size(); ++i) {
      const std::string found =
          first_difference(a.as_list()[i], b.as_list()[i], path + "." + std::to_string(i));
      if (!found.empty()) return found;
    }
    return "";
  }
  if (a.is_tensor()) {
    const at::Tensor x = a.as_tensor().contiguous(), y = b.as_tensor().contiguous();
    const bool same = x.dtype() == y.dtype() && x.sizes() == y.sizes() &&
                      std::memcmp(x.const_data_ptr(), y.const_data_ptr(), x.nbytes()) == 0;
    return same ? "" : path + ": tensors differ";
  }
  const bool same = (a.is_string() && a.as_string() == b.as_string()) ||
                    (a.is_int() && a.as_int() == b.as_int()) ||
                    (a.is_float() && a.as_float() == b.as_float()) ||
                    (a.is_bool() && a.as_bool() == b.as_bool()) || a.is_none();
  return same ? "" : path + ": values differ";
}

}  // namespace seg::test
