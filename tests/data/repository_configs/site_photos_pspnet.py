# 🚧 工事現場の写真 🚧 「さび」は少ない ⚠️
custom_imports = dict(imports=['works'], allow_failed_imports=False)
default_scope = 'mmseg'
クラス数 = 3; 大きさ = (64, 64)
norm_cfg = dict(type='BN', requires_grad=True); act = dict(type='ReLU6')
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=None, std=None, bgr_to_rgb=True, pad_val=0,
                           seg_pad_val=255, size=大きさ),
    backbone=dict(type='MobileNetV2', widen_factor=.25, strides=(1, 2, 2, 1, 1, 1, 1), dilations=(1, 1, 1, 2, 2, 4, 4),
                  out_indices=(1, 2, 4, 6), norm_cfg=norm_cfg, act_cfg=act),
    decode_head=dict(type='PSPHead', in_channels=80, in_index=3, channels=8, pool_scales=(1, 2, 3, 6),
                     dropout_ratio=.1, num_classes=クラス数, norm_cfg=norm_cfg, align_corners=False,
                     loss_decode=dict(type='LovaszLoss', reduction='none', loss_weight=1.0)),
    auxiliary_head=[dict(type='FCNHead', in_channels=24, in_index=2, channels=8, num_convs=1, concat_input=False,
                         dropout_ratio=.1, num_classes=クラス数, norm_cfg=norm_cfg, align_corners=False,
                         loss_decode=dict(type='CrossEntropyLoss', loss_weight=.4))],
    test_cfg=dict(mode='whole'))
読む = [dict(type='LoadImageFromFile', to_float32=True), dict(type='LoadAnnotations')]
まとめる = [dict(type='PackSegInputs')]
data = dict(type='工事写真', data_root='data/現場 2024', pipeline=[])
train_dataloader = dict(batch_size=2, num_workers=0, sampler=dict(type='InfiniteSampler'), dataset=dict(
    data, pipeline=[*読む, dict(type='RandomRotate', prob=0.5, degree=(-10., 10.), pad_val=0, seg_pad_val=255),
                    dict(type='Resize', scale=大きさ, keep_ratio=False), *まとめる],
    data_prefix=dict(img_path='写真', seg_map_path='正解')))
val_dataloader = dict(batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False), dataset={
    **data, 'pipeline': 読む[:1] + [dict(type='Resize', scale=大きさ)] + 読む[1:] + まとめる,
    'data_prefix': dict(img_path='確認/写真', seg_map_path='確認/正解')})
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU', 'mDice', 'mFscore'], beta=2)
optim_wrapper = dict(optimizer=dict(type='RMSprop', lr=1e-3, momentum=.9))
param_scheduler = [dict(type='MultiStepLR', milestones=[300, 400], gamma=.1, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=500, val_interval=100); val_cfg = dict(); test_cfg = dict()
default_hooks = dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=100), logger=dict(type='LoggerHook', interval=10))
visualizer = dict(type='SegLocalVisualizer', vis_backends=[
    dict(type='LocalVisBackend'), dict(type='NeptuneVisBackend', init_kwargs=dict(mode='offline', name='現場 🚧'))])
log_processor = dict(by_epoch=False)
load_from, resume = None, False
