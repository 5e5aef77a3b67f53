from __future__ import annotations

from collections import OrderedDict
from itertools import chain, product
from typing import Any, Dict, List

default_scope: str = "mmseg"
custom_imports: Dict[str, Any] = {"imports": ["signs"], "allow_failed_imports": False}

frequencies: Dict[str, float] = OrderedDict(background=0.93, sign=0.05, light=0.02)
class_weight = [round(1 / (len(frequencies) * f), 4) for f in frequencies.values()]
num_classes, crop_size = len(frequencies), (128, 128)
norm_cfg = dict(type="SyncBN", requires_grad=True)


def fcn(in_channels: int, in_index: int) -> Dict[str, Any]:
    return dict(
        type="FCNHead",
        in_channels=in_channels,
        channels=8,
        num_convs=2,
        num_classes=num_classes,
        in_index=in_index,
        norm_cfg=norm_cfg,
        concat_input=False,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0, class_weight=class_weight),
    )


class Steps:
    """Names of steps."""

    LOAD = ["LoadImageFromFile", "LoadAnnotations"]
    PACK = ["PackSegInputs"]

    @classmethod
    def build(cls, *middle: Dict[str, Any]) -> List[Dict[str, Any]]:
        return [dict(type=t) for t in cls.LOAD] + list(middle) + [dict(type=t) for t in cls.PACK]


model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=crop_size,
    ),
    pretrained=None,
    backbone=dict(
        type="BiSeNetV2",
        detail_channels=(8, 8, 16),
        semantic_channels=(4, 8, 12, 16),
        semantic_expansion_ratio=2,
        bga_channels=16,
        out_indices=(0, 1, 2, 3, 4),
        init_cfg=None,
        align_corners=False,
    ),
    decode_head={**fcn(16, 0), "num_convs": 1, "sampler": dict(type="OHEMPixelSampler", thresh=0.7, min_kept=10000)},
    auxiliary_head=[fcn(c, i) for i, c in enumerate((4, 8, 12, 16), start=1)],
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)
train_pipeline = Steps.build(
    dict(type="RandomResize", scale=(256, 128), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="PhotoMetricDistortion"),
)
test_pipeline = Steps.build()
train_dataloader = dict(
    batch_size=8,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="ConcatDataset",
        datasets=[
            dict(
                type="SignsDataset",
                data_root=f"/data/signs/{town}/{weather}",
                data_prefix=dict(img_path="image", seg_map_path="label"),
                pipeline=train_pipeline,
            )
            for town, weather in product(["north", "south"], ["sun", "rain"])
        ],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="SignsDataset",
        data_root="/data/signs/east",
        data_prefix=dict(img_path="image", seg_map_path="label"),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU", "mFscore"])
test_evaluator = val_evaluator
optim_wrapper = dict(
    type="AmpOptimWrapper",
    loss_scale=512.0,
    optimizer=dict(type="NAdam", lr=5e-4, weight_decay=1e-4),
    paramwise_cfg=dict(norm_decay_mult=0.0),
)
param_scheduler = list(
    chain(
        [dict(type="LinearLR", start_factor=1e-3, by_epoch=False, begin=0, end=100)],
        [dict(type="CosineAnnealingLR", eta_min=1e-6, by_epoch=False, begin=100, end=1000)],
    )
)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=1000, val_interval=100)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=100, save_best="mFscore"),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    visualization=dict(type="SegVisualizationHook"),
)
custom_hooks = [dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=0.001)]
visualizer = dict(
    type="SegLocalVisualizer",
    vis_backends=[dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend"), dict(type="MLflowVisBackend")],
    name="visualizer",
)
log_processor = dict(by_epoch=False)
