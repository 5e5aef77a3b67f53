import sys
import os
from copy import deepcopy

sys.path.append(os.path.abspath('.'))
sys.path.insert(0, '../../')
custom_imports = dict(imports=['projects.fields'], allow_failed_imports=False)
default_scope = 'mmseg'
GPUS, PER_GPU = int(os.environ.get('FIELDS_GPUS', 4)), 2
base_lr = 1e-4 * GPUS * PER_GPU / 16
print('lr', base_lr)
crop = 64
data_preprocessor = dict(
    type='mmseg.SegDataPreProcessor', mean=[89.1, 96.0, 80.7], std=[30.2, 26.1, 24.9], bgr_to_rgb=True,
    pad_val=0, seg_pad_val=255, size=(crop, crop))
model = dict(
    type='mmseg.EncoderDecoder', data_preprocessor=data_preprocessor,
    backbone=dict(
        type='mmpretrain.ConvNeXt', arch=dict(depths=[1, 1, 2, 1], channels=[8, 16, 32, 64]), out_indices=[0, 1, 2, 3],
        drop_path_rate=0.4, layer_scale_init_value=1.0, gap_before_final_norm=False),
    neck=dict(type='mmdet.FPN', in_channels=[8, 16, 32, 64], out_channels=8, num_outs=4),
    decode_head=dict(
        type='FPNHead', in_channels=[8] * 4, in_index=[0, 1, 2, 3], feature_strides=[4, 8, 16, 32], channels=8,
        dropout_ratio=0.1, num_classes=3, norm_cfg=dict(type='GN', num_groups=4, requires_grad=True),
        align_corners=False, loss_decode=dict(type='TverskyLoss', alpha=.3, beta=.7, loss_weight=1.)),
    test_cfg=dict(mode='slide', crop_size=(crop, crop), stride=(crop * 2 // 3, ) * 2))
train_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='tifffile'), dict(type='LoadAnnotations', imdecode_backend='pillow'),
    dict(type='RandomChoice', transforms=[[dict(type='RandomRotFlip', rotate_prob=.5, flip_prob=.5, degree=20)],
                                          [dict(type='RandomCutOut', prob=.5, n_holes=(1, 3), cutout_ratio=[(.1, .1), (.2, .2)])]],
         prob=[.7, .3]),
    dict(type='RandomCrop', crop_size=(crop, crop)), dict(type='PackSegInputs')]
test_pipeline = deepcopy(train_pipeline)
del test_pipeline[2:4]
train_dataloader = dict(
    batch_size=PER_GPU, num_workers=min(8, 2 * PER_GPU), sampler=dict(type='mmengine.DefaultSampler', shuffle=True),
    dataset=dict(type='WinterFieldsDataset', data_root='data/fields', img_suffix='_rgb.tif',
                 data_prefix=dict(img_path='train', seg_map_path='train'), pipeline=train_pipeline))
val_dataloader = deepcopy(train_dataloader)
val_dataloader.update(batch_size=1, sampler=dict(type='DefaultSampler', shuffle=False))
val_dataloader['dataset'].update(
    data_prefix=dict(img_path='val', seg_map_path='val'), pipeline=test_pipeline)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmseg.IoUMetric', iou_metrics=['mIoU'])
test_evaluator = deepcopy(val_evaluator)
optim_wrapper = dict(
    type='AmpOptimWrapper', constructor='LearningRateDecayOptimizerConstructor', loss_scale='dynamic',
    paramwise_cfg={'decay_rate': .9, 'decay_type': 'stage_wise', 'num_layers': 6},
    optimizer=dict(type='AdamW', lr=base_lr, betas=(.9, .999), weight_decay=.05))
warm = 3
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=warm, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=30 - warm, eta_min=base_lr * 1e-2, by_epoch=True, begin=warm, end=30)]
train_cfg = dict(by_epoch=True, max_epochs=30, val_interval=1)
val_cfg, test_cfg = {}, {}
custom_hooks = [dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=2e-4, update_buffers=True, priority=49)]
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=5, max_keep_ckpts=3, save_best='auto'))
vis_backends = [dict(type='mmengine.LocalVisBackend'), dict(type='mmengine.WandbVisBackend')]
visualizer = dict(type='mmseg.SegLocalVisualizer', vis_backends=vis_backends)
if __name__ == '__main__':
    print(model)
