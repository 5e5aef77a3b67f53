# Copyright (c) The Authors. All rights reserved.
from datetime import date, datetime
from pathlib import Path
import re
custom_imports = dict(imports=['tumours_dataset', 'my_metrics.hd95'], allow_failed_imports=True)
name = '{{ fileBasenameNoExtension }}'
when = datetime.now().strftime('%Y%m%d_%H%M%S')
run = re.sub(r'\W+', '-', f'{date(2024, 5, 17):%b %d} {name}').lower()
assert len(when) == 15 and Path(run).suffix == ''
del when
default_scope = 'mmseg'
data_root = str(Path('{{$TUMOURS_ROOT:/data/tumours}}') / 'v2')
work_dir = str(Path('./work_dirs') / run)
resume = True
load_from = None
norm_cfg = dict(type='BN', eps=1e-03, requires_grad=True)
H = W = 96
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[72.39239876, 82.90891754, 73.15835921], std=[1, 1, 1],
                           bgr_to_rgb=True, pad_val=0, seg_pad_val=255, size=(H, W)),
    backbone=dict(type='CGNet', norm_cfg=norm_cfg, in_channels=3, num_channels=(8, 16, 32), num_blocks=(2, 3), dilations=(2, 4), reductions=(8, 16)),
    decode_head=dict(type='FCNHead', in_channels=64, in_index=2, channels=64, num_convs=0, concat_input=False, dropout_ratio=0,
                     num_classes=2, norm_cfg=norm_cfg,
                     loss_decode=dict(type='JaccardLoss') if 0 else dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0, class_weight=[1., 9.5])),
    train_cfg=dict(sampler=None), test_cfg=dict(mode='whole'))
train_pipeline = [dict(type='LoadImageFromFile', color_type='color'), dict(type='LoadAnnotations'), dict(type='Resize', scale=(W, H), keep_ratio=False),
                  dict(type='RandomFlip', prob=[0.3, 0.3, 0.2], direction=['horizontal', 'vertical', 'diagonal']), dict(type='PackSegInputs')]
test_pipeline = list(filter(lambda s: s['type'] != 'RandomFlip', train_pipeline))
fold = int('{{$FOLD:0}}')
def split(fold, part): return f'folds/fold{fold}_{part}.txt'
train_dataloader = dict(batch_size=8, num_workers=4, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=True), drop_last=False,
    dataset=dict(type='TumourDataset', data_root=data_root, ann_file=split(fold, 'train'), data_prefix=dict(img_path='images', seg_map_path='masks'), pipeline=train_pipeline))
val_dataloader = dict(batch_size=1, num_workers=4, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='TumourDataset', data_root=data_root, ann_file=split(fold, 'val'), data_prefix=dict(img_path='images', seg_map_path='masks'), pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = [dict(type='IoUMetric', iou_metrics=['mDice', 'mIoU'])]
test_evaluator = [*val_evaluator, dict(type='IoUMetric', iou_metrics=['mFscore'], prefix='fold')]
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=0.001, eps=1e-08, weight_decay=0.0005))
param_scheduler = [dict(type='CosineRestartLR', periods=[10, 20, 30], restart_weights=[1, .5, .25], eta_min=1e-6, by_epoch=True)]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=60, val_begin=5, val_interval=1, dynamic_intervals=[(50, 1)])
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(timer=dict(type='IterTimerHook'), logger=dict(type='LoggerHook', interval=100, ignore_last=False, log_metric_by_epoch=True),
    param_scheduler=dict(type='ParamSchedulerHook'), sampler_seed=dict(type='DistSamplerSeedHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=True, interval=1, save_best=['mDice', 'mIoU'], rule=['greater', 'greater'], max_keep_ckpts=2, save_last=True),
    visualization=dict(type='SegVisualizationHook', draw=True, interval=10),
    early_stop=dict(type='EarlyStoppingHook', monitor='mDice', rule='greater', patience=15, min_delta=1e-3),
    nan=dict(type='CheckInvalidLossHook', interval=50), free=dict(type='EmptyCacheHook', after_epoch=True), runtime_info=None)
env_cfg = dict(cudnn_benchmark=True, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0), dist_cfg=dict(backend='nccl', timeout=1800))
vis_backends = [dict(type='LocalVisBackend'), dict(type='NeptuneVisBackend', init_kwargs=dict(project='lab/tumours', api_token=None))]
visualizer = dict(type='SegLocalVisualizer', vis_backends=vis_backends, name='visualizer', save_dir=work_dir)
log_processor = dict(type='LogProcessor', window_size=10, by_epoch=True, custom_cfg=[dict(data_src='loss', log_name='loss_long', method_name='mean', window_size=50)])
log_level = 'INFO'
launcher = 'none'
randomness = dict(seed=0, deterministic=False, diff_rank_seed=False)
