custom_imports = dict(imports=['two_cities'], allow_failed_imports=False)
default_scope = 'mmseg'
cities = {'CityA': 'data/a', 'CityB': '/abs/data/b'}
size, classes = (64, 128), ['road', 'building', 'green']
train_pipeline = [dict(type='LoadImageFromFile', backend_args=None), dict(type='LoadAnnotations')]
train_pipeline += [
    dict(type='RandomResize', scale=(128, 64), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=size, cat_max_ratio=0.75, ignore_index=255),
    dict(type='RandomFlip', prob=0.5)]
train_pipeline += [dict(type='PhotoMetricDistortion', brightness_delta=16, hue_delta=8), dict(type='PackSegInputs')]
test_pipeline = [s for i, s in enumerate(train_pipeline) if i in (0, 1)] + [train_pipeline[-1]]
train_sets, val_sets = [], []
for (name, root) in cities.items():
    for split, sets, pipeline in zip(['train', 'val'], (train_sets, val_sets), [train_pipeline, test_pipeline]):
        sets.append(dict(type=name, data_root=root, data_prefix=dict(
            img_path=f'{split}/images', seg_map_path=f'{split}/labels'), pipeline=pipeline))
train_sets[1] = dict(type='RepeatDataset', times=3, dataset=train_sets[1])
train_dataloader = dict(
    batch_size=4, num_workers=4, persistent_workers=True, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(type='ConcatDataset', datasets=train_sets, ignore_keys=['dataset_type']))
val_dataloader = dict(
    batch_size=1, num_workers=4, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='ConcatDataset', datasets=val_sets))
test_dataloader = val_dataloader | dict(dataset=val_sets[-1])
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator | dict(output_dir='out', format_only=False)
norm_cfg = dict(type='SyncBN', requires_grad=True)
aux = dict(type='FCNHead', num_convs=1, num_classes=len(classes), concat_input=False, norm_cfg=norm_cfg, align_corners=False)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[0.0, 0.0, 0.0], std=[255.0, 255.0, 255.0],
                           bgr_to_rgb=True, pad_val=0, seg_pad_val=255, size=size),
    backbone=dict(
        type='BiSeNetV1', in_channels=3, context_channels=(4, 8, 16), spatial_channels=(4, 4, 4, 4), out_indices=(0, 1, 2),
        out_channels=16, align_corners=False, norm_cfg=norm_cfg,
        backbone_cfg=dict(type='ResNet', in_channels=3, depth=18, base_channels=2, stem_channels=2, num_stages=4,
                          out_indices=(0, 1, 2, 3), dilations=(1, 1, 1, 1), strides=(1, 2, 2, 2), norm_cfg=norm_cfg,
                          norm_eval=False, style='pytorch', contract_dilation=True)),
    decode_head=aux | dict(in_channels=16, in_index=0, channels=16, loss_decode=dict(
        type='OhemCrossEntropy', thres=0.9, min_kept=131072, loss_weight=1.0)),
    auxiliary_head=[dict(**aux, in_channels=4, channels=4, in_index=i, loss_decode=dict(
        type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)) for i in (1, 2)],
    train_cfg=dict(), test_cfg=dict(mode='whole'))
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.025, momentum=0.9, weight_decay=5e-4), accumulative_counts=4)
param_scheduler = [dict(type='LinearLR', by_epoch=False, start_factor=0.1, begin=0, end=100),
                   dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=100, end=1600, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=1600, val_interval=400)
val_cfg = dict(type='ValLoop'); test_cfg = dict(type='TestLoop')
default_hooks = dict(timer=dict(type='IterTimerHook'), logger=dict(type='LoggerHook', interval=50),
                     checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=400))
visualizer = dict(type='SegLocalVisualizer', vis_backends=[
    dict(type=f'{tracker}VisBackend') for tracker in ('Local', 'Aim', 'Tensorboard', 'MLflow')])
del name, root, split, sets, pipeline
