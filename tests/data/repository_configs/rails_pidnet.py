import os
import os.path as osp
import sys
sys.path.insert(0, os.getcwd())
# export RAILS_ROOT=...
ROOT = os.environ.get('RAILS_ROOT_UNSET_HERE') or '/home/rail/datasets'
DATA = osp.normpath(osp.join(ROOT, '..', 'datasets', 'rails'))
try:
    import wandb
    USE_WANDB = False
except ImportError:
    USE_WANDB = False
assert isinstance(DATA, str), DATA
class_weight = [0.8373, 0.918, 0.866, 1.0345]
classes = ('rail', 'sleeper', 'ballast', 'other')
metainfo = dict(classes=classes, palette=[[i * 60] * 3 for i in range(len(classes))])
default_scope = 'mmseg'
crop_size = (128, 128)
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
                           bgr_to_rgb=True, pad_val=0, seg_pad_val=255, size=crop_size),
    backbone=dict(type='PIDNet', in_channels=3, channels=4, ppm_channels=8, num_stem_blocks=2, num_branch_blocks=3,
                  align_corners=False, norm_cfg=norm_cfg, act_cfg=dict(type='ReLU', inplace=True),
                  init_cfg=dict(type='Pretrained', checkpoint='https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/pidnet/pidnet-s_imagenet1k_20230306-715e6273.pth') if osp.exists('/nowhere') else None),
    decode_head=dict(
        type='PIDHead', in_channels=16, channels=8, num_classes=4, norm_cfg=norm_cfg, act_cfg=dict(type='ReLU', inplace=True), align_corners=True,
        loss_decode=[
            dict(type='CrossEntropyLoss', use_sigmoid=False, class_weight=class_weight, loss_weight=0.4),
            dict(type='OhemCrossEntropy', thres=0.9, min_kept=131072, class_weight=class_weight, loss_weight=1.0),
            dict(type='BoundaryLoss', loss_weight=20.0),
            dict(type='OhemCrossEntropy', thres=0.9, min_kept=131072, class_weight=class_weight, loss_weight=1.0)]),
    train_cfg=dict(), test_cfg=dict(mode='whole'))
train_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(256, 128), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75), dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'), dict(type='GenerateEdge', edge_width=4), dict(type='PackSegInputs')]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(256, 128), keep_ratio=True),
                 dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
datasets = {}
for split, pipeline in dict(train=train_pipeline, val=test_pipeline).items():
    datasets[split] = dict(type='BaseSegDataset', metainfo=metainfo, img_suffix='.jpg', seg_map_suffix='.png',
                           data_prefix=dict(img_path=osp.join(DATA, split, 'jpg'), seg_map_path=osp.join(DATA, split, 'png')), pipeline=pipeline)
train_dataloader = dict(batch_size=6, num_workers=4, persistent_workers=True, sampler=dict(type='InfiniteSampler', shuffle=True), dataset=datasets['train'])
val_dataloader = dict(batch_size=1, num_workers=4, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=False), dataset=datasets['val'])
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU']); test_evaluator = val_evaluator
iters = 1200; lr = 0.01
optimizer = dict(type='SGD', lr=lr, momentum=0.9, weight_decay=0.0005)
optim_wrapper = dict(type='OptimWrapper', optimizer=optimizer, clip_grad=None)
param_scheduler = [dict(type='PolyLR', eta_min=0, power=0.9, begin=0, end=iters, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=iters, val_interval=iters // 10)
val_cfg = dict(type='ValLoop'); test_cfg = dict(type='TestLoop')
default_hooks = dict(timer=dict(type='IterTimerHook'), logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
                     param_scheduler=dict(type='ParamSchedulerHook'), checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=iters // 10),
                     sampler_seed=dict(type='DistSamplerSeedHook'), visualization=dict(type='SegVisualizationHook'))
randomness = dict(seed=304)
backends = ['Local'] + ['Wandb'] * USE_WANDB
visualizer = dict(type='SegLocalVisualizer', vis_backends=[dict(type=b + 'VisBackend') for b in backends], name='visualizer')
log_processor = dict(by_epoch=False)
work_dir = osp.abspath('/tmp/rails/work_dirs')
if __name__ == "__main__":
    from mmengine.runner import Runner
    Runner.from_cfg(globals()).train()
