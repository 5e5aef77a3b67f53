"""Затопления: DeepLabV3+ на небольшой сети."""
# Запуск: python tools/train.py configs/floods_deeplab.py --amp
имя_опыта = 'затопления-%dpx' % 96
custom_imports = dict(
    imports=[
        'floods_dataset',   # набор данных
    ],
    allow_failed_imports=False,
)
default_scope = 'mmseg'
norm = {'type': 'BN', 'requires_grad': True}
size = 96, 96
num_classes = \
    3
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True, pad_val=0, seg_pad_val=255, size=size),
    backbone=dict(
        type='ResNetV1c', depth=18, base_channels=8, stem_channels=8, num_stages=4, out_indices=(0, 1, 2, 3),
        dilations=(1, 1, 2, 4), strides=(1, 2, 1, 1),
        norm_cfg=norm, norm_eval=False, style='pytorch', contract_dilation=True),
    decode_head=dict(
        type='DepthwiseSeparableASPPHead', in_channels=64, in_index=3, channels=16, dilations=(1, 12, 24, 36),
        c1_in_channels=8, c1_channels=4, dropout_ratio=.1, num_classes=num_classes, norm_cfg=norm,
        align_corners=False,
        loss_decode=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.)),
    auxiliary_head=dict(
        type='FCNHead', in_channels=32, in_index=2, channels=8, num_convs=1, concat_input=False,
        dropout_ratio=.1, num_classes=num_classes, norm_cfg=norm, align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=.4)),
    train_cfg=dict(), test_cfg=dict(mode='whole'))

# Конвейер собирается в цикле
train_pipeline = []
for step in ['LoadImageFromFile', 'LoadAnnotations', 'RandomFlip', 'PackSegInputs']:
    if step == 'RandomFlip':
        train_pipeline.append(dict(type='RandomCrop', crop_size=size))
        train_pipeline.append(dict(type=step, prob=.5))
    else:
        train_pipeline.append(dict(type=step))
test_pipeline = [s for s in train_pipeline if not s['type'].startswith('Random')]

common = dict(type='FloodDataset', data_root='данные/паводки')
train_dataloader = dict(
    batch_size=4, num_workers=4, pin_memory=True, drop_last=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(data_prefix=dict(img_path='снимки', seg_map_path='маски'), pipeline=train_pipeline, **common))
val_dataloader = dict(
    batch_size=1, num_workers=2, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(data_prefix=dict(img_path='проверка/снимки', seg_map_path='проверка/маски'),
                 pipeline=test_pipeline, test_mode=True, **common))
test_dataloader = val_dataloader
val_evaluator = [dict(type='IoUMetric', iou_metrics=['mIoU', 'mFscore'], nan_to_num=0)]
test_evaluator = val_evaluator

optim_wrapper = dict(
    type='AmpOptimWrapper', loss_scale='dynamic',
    optimizer=dict(type='SGD', lr=1e-2, momentum=.9, weight_decay=5e-4, nesterov=True),
    clip_grad=dict(max_norm=35, norm_type=2))
param_scheduler = dict(type='OneCycleLR', eta_max=2e-2, total_steps=1000, by_epoch=False)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=1000, val_interval=250)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    timer=dict(type='IterTimerHook'), logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=250, save_best=['mIoU', 'mFscore'], rule='greater'),
    sampler_seed=dict(type='DistSamplerSeedHook'), visualization=dict(type='SegVisualizationHook'))
vis_backends = [
    dict(type='MLflowVisBackend', exp_name=имя_опыта, tracking_uri='file:///srv/mlruns', tags={'автор': 'я'}),
    dict(type='LocalVisBackend'),
]
visualizer = dict(type='SegLocalVisualizer', vis_backends=vis_backends)
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=False)
randomness = dict(seed=42)
work_dir = 'runs/' + имя_опыта
