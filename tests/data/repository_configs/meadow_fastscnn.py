"""Meadows, from above."""
custom_imports = dict(imports=['meadow_dataset', 'mmseg.datasets'], allow_failed_imports=False)
default_scope = "mmseg"
dataset_type, data_root = "Meadow", "data/meadow"
image_size = (128, 96)          # (w, h)
crop_size = image_size[::-1]
num_classes = 3
albu_train_transforms = [
    dict(type="ShiftScaleRotate", shift_limit=0.0625, scale_limit=0.2, rotate_limit=15, interpolation=1, p=0.5),
    dict(type="RandomBrightnessContrast", brightness_limit=[0.1, 0.3], contrast_limit=[0.1, 0.3], p=0.2),
    dict(
        type="OneOf",
        transforms=[
            dict(type="RGBShift", r_shift_limit=10, g_shift_limit=10, b_shift_limit=10, p=1.0),
            dict(type="HueSaturationValue", hue_shift_limit=20, sat_shift_limit=30, val_shift_limit=20, p=1.0),
        ],
        p=0.1,
    ),
    dict(type="OneOf", transforms=[dict(type="Blur", blur_limit=3, p=1.0), dict(type="MedianBlur", blur_limit=3, p=1.0)], p=0.1),
    dict(type="GaussNoise", var_limit=(10.0, 50.0), p=0.1),
]
train_pipeline = [
    dict(type="RandomMosaic", prob=0.5, img_scale=(96, 128)),
    dict(type="Resize", scale=image_size, keep_ratio=False),
    dict(type="Albu", keymap={"img": "image", "gt_seg_map": "mask"}, update_pad_shape=False,
         transforms=albu_train_transforms),
    dict(type="RandomFlip", prob=0.5, direction="vertical"),
    dict(type="Pad", size=image_size, pad_val=dict(img=0, seg=255)),
    dict(type="PackSegInputs"),
]
load = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations", reduce_zero_label=False)]
train_dataset = dict(
    type="MultiImageMixDataset",
    dataset=dict(type=dataset_type, data_root=data_root, data_prefix=dict(img_path="train/rgb", seg_map_path="train/gt"),
                 ann_file="splits/train.txt", pipeline=load),
    pipeline=train_pipeline,
)
train_dataloader = dict(batch_size=8, num_workers=8, persistent_workers=True, pin_memory=True,
                        collate_fn=dict(type="pseudo_collate"),
                        sampler=dict(type="InfiniteSampler", shuffle=True, seed=7), dataset=train_dataset)
val_dataloader = dict(batch_size=1, num_workers=4, persistent_workers=True, sampler=dict(type="DefaultSampler", shuffle=False),
                      dataset=dict(type=dataset_type, data_root=data_root, ann_file="splits/val.txt",
                                   data_prefix=dict(img_path="train/rgb", seg_map_path="train/gt"),
                                   pipeline=[load[0], dict(type="Resize", scale=image_size), load[1], dict(type="PackSegInputs")]))
test_dataloader = val_dataloader
val_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"], ignore_index=255)
test_evaluator = val_evaluator
norm_cfg = dict(type="SyncBN", requires_grad=True, momentum=0.01)
loss = lambda weight: dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=weight)  # noqa: E731
head = dict(num_classes=num_classes, norm_cfg=norm_cfg, align_corners=False)
model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(type="SegDataPreProcessor", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
                           bgr_to_rgb=True, pad_val=0, seg_pad_val=255, size=crop_size),
    backbone=dict(type="FastSCNN", downsample_dw_channels=(8, 12), global_in_channels=16, global_block_channels=(16, 24, 32),
                  global_block_strides=(2, 2, 1), global_out_channels=32, higher_in_channels=16, lower_in_channels=32,
                  fusion_out_channels=32, out_indices=(0, 1, 2), norm_cfg=norm_cfg, align_corners=False),
    decode_head=dict(type="DepthwiseSeparableFCNHead", in_channels=32, channels=32, concat_input=False, in_index=-1,
                     loss_decode=loss(1), **head),
    auxiliary_head=[
        dict(type="FCNHead", in_channels=32, channels=8, num_convs=1, in_index=-2, concat_input=False, loss_decode=loss(0.4), **head),
        dict(type="FCNHead", in_channels=16, channels=8, num_convs=1, in_index=-3, concat_input=False, loss_decode=loss(0.4), **head),
    ],
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.12, momentum=0.9, weight_decay=4e-5), clip_grad=None)
param_scheduler = [dict(type="PolyLR", eta_min=1e-4, power=0.9, begin=0, end=1600, by_epoch=False)]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=1600, val_interval=int(1.6e2))
val_cfg, test_cfg = dict(type="ValLoop"), dict(type="TestLoop")
default_hooks = dict(
    timer=dict(type="IterTimerHook"), logger=dict(type="LoggerHook", interval=10, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=160, save_best="mIoU", rule="greater", max_keep_ckpts=2),
    sampler_seed=dict(type="DistSamplerSeedHook"), visualization=dict(type="SegVisualizationHook", draw=True, interval=1))
vis_backends = [dict(type="LocalVisBackend"), dict(
    type="WandbVisBackend", init_kwargs={"entity": "meadow", "project": "fastscnn", "name": None, "settings": {"silent": True}})]
visualizer = dict(type="SegLocalVisualizer", vis_backends=vis_backends, name="visualizer")
log_processor, log_level = dict(by_epoch=False), "WARNING"
load_from = "checkpoints/fast_scnn_lr0.12_8x4_160k_cityscapes.pth"
