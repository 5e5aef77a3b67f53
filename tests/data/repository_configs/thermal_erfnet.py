_base_ = [
    "./_base_/thermal.py",
    './_base_/runtime.py'   ,
]
import numpy as np
import torch
crop = (64, 64)
train_pipeline = _base_.train_pipeline[:2] + [dict(type='RandomCrop', crop_size=crop)] + _base_.train_pipeline[2:]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean={{_base_.img_norm_cfg.mean}}, std=_base_.img_norm_cfg.std, bgr_to_rgb=False, pad_val=0, seg_pad_val=255, size=crop),
    backbone=dict(type='ERFNet', in_channels=1, enc_downsample_channels=(4, 8, 16), enc_stage_non_bottlenecks=(1, 2), enc_non_bottleneck_dilations=(2, 4),
                  enc_non_bottleneck_channels=(8, 16), dec_upsample_channels=(8, 4), dec_stages_non_bottleneck=(1, 1), dec_non_bottleneck_channels=(8, 4), dropout_ratio=.1,
                  norm_cfg=norm_cfg),
    decode_head=dict(type='FCNHead', in_channels=4, channels=8, num_convs=1, concat_input=False, dropout_ratio=.1, num_classes=len(_base_.classes), norm_cfg=norm_cfg, align_corners=False,
                     loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1., class_weight=[0.4, 1.6])),
    train_cfg=dict(), test_cfg=dict(mode='whole'))
optim_wrapper = dict(_delete_=True, type='AmpOptimWrapper', dtype='bfloat16', optimizer=dict(type='Lion', lr=1e-4, betas=(.9, .99)))
default_hooks = dict(checkpoint=dict(save_best='mIoU', interval=100), visualization=dict(draw=True))
visualizer = dict(vis_backends=_base_.vis_backends + [dict(type='WandbVisBackend', init_kwargs=dict(dir='{{ fileDirname }}'[:0] + 'wandb', job_type='{{ fileBasename }}'))])
