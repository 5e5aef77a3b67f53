from functools import partial

default_scope = 'mmseg'
roots = dict(DRIVE='data/DRIVE', HRF='data/HRF')
CLAHE = dict(type='CLAHE', clip_limit=4.0, tile_grid_size=(4, 4))
Crop = partial(dict, type='RandomCrop', cat_max_ratio=1.0)
crop_size = (64, 64)
norm_cfg = dict(type='IN', affine=True)


def dataset(kind, split, steps):
    return dict(
        type=f'{kind}Dataset', data_root=roots[kind],
        data_prefix=dict(img_path=f'images/{split}', seg_map_path=f'annotations/{split}'),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), CLAHE, *steps, dict(type='PackSegInputs')])


model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=False,
                           pad_val=0, seg_pad_val=255, size=crop_size),
    backbone=dict(type='ResNet', depth=18, base_channels=4, stem_channels=8, deep_stem=True, avg_down=True,
                  norm_cfg=norm_cfg, out_indices=(0, 1, 2, 3), frozen_stages=-1, zero_init_residual=False,
                  plugins=[dict(cfg=dict(type='ContextBlock', ratio=0.25), stages=(False, False, True, True),
                                position='after_conv2')] if False else None),
    neck=dict(type='FPN', in_channels=[4, 8, 16, 32], out_channels=8, num_outs=4),
    decode_head=dict(type='FPNHead', in_channels=[8] * 4, in_index=list(range(4)), feature_strides=[4, 8, 16, 32],
                     channels=8, dropout_ratio=0, num_classes=2, out_channels=1, threshold=0.4, norm_cfg=norm_cfg,
                     align_corners=False,
                     loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0)),
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(42, 42)))
train_dataloader = dict(
    batch_size=4, num_workers=4, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(type='RepeatDataset', times=40000, dataset=dataset('DRIVE', 'training', [
        dict(type='AdjustGamma', gamma=1.1), Crop(crop_size=crop_size), dict(type='RandomFlip', prob=.5)])))
val_dataloader = dict(batch_size=1, num_workers=4, sampler=dict(type='DefaultSampler', shuffle=False),
                      dataset=dataset('DRIVE', 'validation', [dict(type='Resize', scale=(128, 128), keep_ratio=True)]))
test_dataloader = {**val_dataloader, 'dataset': dataset('HRF', 'validation', [])}
val_evaluator = dict(type='IoUMetric', iou_metrics=['mDice', ])
test_evaluator = dict(val_evaluator)
optim_wrapper = dict(optimizer=dict(type='Adamax', lr=2e-3), clip_grad=dict(max_norm=1.))
param_scheduler = [dict(type='StepLR', by_epoch=False, step_size=250, gamma=.5)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=1000, val_interval=500)
val_cfg = dict(type='ValLoop', fp16=True)
test_cfg = dict(type='TestLoop', fp16=True)
default_hooks = dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=500, save_best='mDice', save_optimizer=False))
vis_backends = [dict(type='ClearMLVisBackend'), dict(type='LocalVisBackend', save_dir='runs/vessels')]
visualizer = dict(type='SegLocalVisualizer', vis_backends=vis_backends, name='vessels')
log_processor = dict(by_epoch=False)
del Crop, CLAHE
