# -*- coding: utf-8 -*-
# =====================  第一部分：运行环境  =====================
default_scope = 'mmseg'
custom_imports = dict(imports='lane_marking', allow_failed_imports=False)
env_cfg = dict(cudnn_benchmark=True, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0), dist_cfg=dict(backend='nccl'), )
vis_backends = [dict(type='LocalVisBackend'), dict(type='WandbVisBackend', init_kwargs=dict(project='车道线', name='fcn-实验①', tags=['夜间', '雨天']), watch_kwargs=dict(log_graph=True, log_freq=100), commit=True)]
visualizer = dict(type='SegLocalVisualizer', vis_backends=vis_backends, name='visualizer', alpha=0.6)
log_processor = dict(by_epoch=False); log_level = 'INFO'; load_from = None; resume = False
# ====================  第二部分：数据  =========================
类别数 = 4                        # 变量名也可以是中文
数据目录 = 'D:/数据/车道线'.replace('D:', 'data')
crop_size = (64, 128)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(256, 128), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    # dict(type='RandomFlip', prob=0.5),   # 箭头有方向，不能翻转
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(256, 128), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs', meta_keys=('img_path', 'seg_map_path', 'ori_shape', 'img_shape', 'pad_shape', 'scale_factor', 'flip', 'flip_direction', 'reduce_zero_label')),
]
train_dataloader = dict(batch_size=2, num_workers=2, persistent_workers=True, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(type='LaneMarkingDataset', data_root=数据目录, data_prefix=dict(img_path='图像/训练', seg_map_path='标签/训练'), pipeline=train_pipeline))
val_dataloader = dict(batch_size=1, num_workers=2, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='LaneMarkingDataset', data_root=数据目录, data_prefix=dict(img_path='图像/验证', seg_map_path='标签/验证'), pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU', 'mDice'], prefix='验证')
test_evaluator = val_evaluator
# ====================  第三部分：模型  =========================
norm_cfg = dict(type='SyncBN', requires_grad=True)
data_preprocessor = dict(type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True, pad_val=0, seg_pad_val=255, size=crop_size)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='HRNet', norm_cfg=norm_cfg, norm_eval=False,
        extra=dict(
            stage1=dict(num_modules=1, num_branches=1, block='BOTTLENECK', num_blocks=(1, ), num_channels=(8, )),
            stage2=dict(num_modules=1, num_branches=2, block='BASIC', num_blocks=(1, 1), num_channels=(4, 8)),
            stage3=dict(num_modules=1, num_branches=3, block='BASIC', num_blocks=(1, 1, 1), num_channels=(4, 8, 16)),
            stage4=dict(num_modules=1, num_branches=4, block='BASIC', num_blocks=(1, 1, 1, 1), num_channels=(4, 8, 16, 32)))),
    decode_head=dict(
        type='FCNHead', in_channels=[4, 8, 16, 32], in_index=(0, 1, 2, 3), channels=sum([4, 8, 16, 32]),
        input_transform='resize_concat', kernel_size=1, num_convs=1, concat_input=False, dropout_ratio=-1,
        num_classes=类别数, norm_cfg=norm_cfg, align_corners=False,
        sampler=dict(type='OHEMPixelSampler', thresh=0.7, min_kept=100000),  # 难例挖掘
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0,
                         class_weight=[0.1, 1, 1, 2.5], avg_non_ignore=True)),
    train_cfg=dict(), test_cfg=dict(mode='whole'))
# ====================  第四部分：训练策略  =====================
optimizer = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0005)
optim_wrapper = dict(type='OptimWrapper', optimizer=optimizer, clip_grad=None)
param_scheduler = [dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=0, end=2_000, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2_000, val_interval=500)
val_cfg = dict(type='ValLoop'); test_cfg = dict(type='TestLoop')
default_hooks = dict(timer=dict(type='IterTimerHook'), logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False), param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=500, save_best='验证/mIoU', max_keep_ckpts=3), sampler_seed=dict(type='DistSamplerSeedHook'), visualization=dict(type='SegVisualizationHook', draw=True, interval=50))
work_dir = './工作目录/fcn'
