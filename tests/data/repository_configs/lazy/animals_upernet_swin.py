import os.path as osp

from mmcv.transforms import LoadImageFromFile, RandomFlip, Resize
from mmengine.config import read_base
from mmengine.model import PretrainedInit
from mmseg.datasets.transforms import LoadAnnotations, PackSegInputs, RandomCrop
from mmseg.evaluation import IoUMetric
from mmseg.models import SegDataPreProcessor
from mmseg.models.backbones import SwinTransformer
from mmseg.models.decode_heads import FCNHead, UPerHead
from mmseg.models.losses import CrossEntropyLoss
from mmseg.models.segmentors import EncoderDecoder
from torch.nn import GELU, BatchNorm2d, LayerNorm

with read_base():
    from .parts.runtime import *
    from .parts.runtime import train_sampler

custom_imports = dict(imports=['animals_dataset'], allow_failed_imports=False)
data_root = osp.join('data', 'animals')
crop_size = (64, 64)
norm_cfg = dict(type=BatchNorm2d)

model = dict(
    type=EncoderDecoder,
    data_preprocessor=dict(
        type=SegDataPreProcessor, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True, pad_val=0, seg_pad_val=255, size=crop_size),
    backbone=dict(
        type=SwinTransformer, pretrain_img_size=64, embed_dims=8, patch_size=4, window_size=4, mlp_ratio=2,
        depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 4], strides=(4, 2, 2, 2), out_indices=(0, 1, 2, 3),
        qkv_bias=True, qk_scale=None, patch_norm=True, drop_rate=0., attn_drop_rate=0., drop_path_rate=0.3,
        use_abs_pos_embed=False, act_cfg=dict(type=GELU), norm_cfg=dict(type=LayerNorm, requires_grad=True)),
    decode_head=dict(
        type=UPerHead, in_channels=[8, 16, 32, 64], in_index=[0, 1, 2, 3], pool_scales=(1, 2, 3, 6), channels=8,
        dropout_ratio=0.1, num_classes=3, norm_cfg=norm_cfg, align_corners=False,
        loss_decode=dict(type=CrossEntropyLoss, use_sigmoid=False, loss_weight=1.0)),
    auxiliary_head=dict(
        type=FCNHead, in_channels=32, in_index=2, channels=8, num_convs=1, concat_input=False, dropout_ratio=0.1,
        num_classes=3, norm_cfg=norm_cfg, align_corners=False,
        loss_decode=dict(type=CrossEntropyLoss, use_sigmoid=False, loss_weight=0.4)),
    train_cfg=dict(), test_cfg=dict(mode='whole'))

train_pipeline = [
    dict(type=LoadImageFromFile), dict(type=LoadAnnotations),
    dict(type=RandomCrop, crop_size=crop_size), dict(type=RandomFlip, prob=0.5), dict(type=PackSegInputs)]
test_pipeline = [
    dict(type=LoadImageFromFile), dict(type=Resize, scale=(128, 64), keep_ratio=True),
    dict(type=LoadAnnotations), dict(type=PackSegInputs)]
train_dataloader = dict(
    batch_size=2, num_workers=2, sampler=train_sampler,
    dataset=dict(type='AnimalsDataset', data_root=data_root,
                 data_prefix=dict(img_path='train', seg_map_path='train_masks'), pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1, num_workers=2, sampler=test_sampler,
    dataset=dict(type='AnimalsDataset', data_root=data_root,
                 data_prefix=dict(img_path='val', seg_map_path='val_masks'), pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type=IoUMetric, iou_metrics=['mIoU'])
test_evaluator = val_evaluator
default_hooks.update(dict(checkpoint=dict(interval=400)))
default_hooks['checkpoint'].update(type='CheckpointHook', by_epoch=False)
optim_wrapper['optimizer']['lr'] = 6e-5
