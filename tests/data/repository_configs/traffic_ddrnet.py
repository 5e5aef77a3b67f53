#!/usr/bin/env python
# encoding: utf-8
'''
    @author : someone
    @file   : traffic_ddrnet.py
'''
CLASSES = """road:128,64,128
sidewalk:244,35,232
car:0,0,142
person:220,20,60""".splitlines()
metainfo = dict(classes=[l.split(':')[0] for l in CLASSES], palette=[list(map(int, l.split(':')[1].split(','))) for l in CLASSES])
num_classes = len(metainfo['classes']); assert num_classes == 4, 'классы'
def build_pipeline(train, size=(128, 64)):
  # two blanks
  out = [dict(type='LoadImageFromFile')]
  if not train: out += [dict(type='Resize', scale=size, keep_ratio=True)]
  out.append(dict(type='LoadAnnotations'))
  if train:
    for (t, kw) in (('RandomResize', {'scale': size, 'ratio_range': (.5, 2.), 'keep_ratio': True}),
                    ('RandomCrop', {'crop_size': (64, 64), 'cat_max_ratio': .75}),
                    ('RandomFlip', {'prob': .5}), ('PhotoMetricDistortion', {})):
      out.append({'type': t, **kw})
  return out + [dict(type='PackSegInputs')]
def build_loader(split, bs, nw=4, **kw):
  train = split == 'train'
  return dict(batch_size=bs, num_workers=nw, persistent_workers=bool(nw), sampler=dict(type='InfiniteSampler' if train else 'DefaultSampler', shuffle=train),
              dataset=dict(type='CityscapesDataset', data_root='data/traffic', metainfo=metainfo, pipeline=build_pipeline(train),
                           data_prefix=dict(img_path='leftImg8bit/' + split, seg_map_path='gtFine/' + split), **kw))
train_dataloader = build_loader('train', 6, img_suffix='.png', seg_map_suffix='.png')
val_dataloader = build_loader('val', 1, img_suffix='.png', seg_map_suffix='.png')
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU']); test_evaluator = val_evaluator
norm_cfg = dict(type='SyncBN', requires_grad=True)
class_weight = [0.8, 1.1, 0.9, 1.2]
loss = dict(type='OhemCrossEntropy', thres=0.9, min_kept=131072, class_weight=class_weight, loss_weight=1.0)
model = dict(type='EncoderDecoder',
  data_preprocessor=dict(type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True, pad_val=0, seg_pad_val=255, size=(64, 64)),
  backbone=dict(type='DDRNet', in_channels=3, channels=4, ppm_channels=8, norm_cfg=norm_cfg, align_corners=False),
  decode_head=dict(type='DDRHead', in_channels=16, channels=8, dropout_ratio=0., num_classes=num_classes, align_corners=False, norm_cfg=norm_cfg, loss_decode=[loss, {**loss, 'loss_weight': 0.4}]),
  train_cfg=dict(), test_cfg=dict(mode='whole'))
max_epochs, iters_per_epoch = 24, 2975 // 6
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1e-2 * (6 * 2 / 12) ** .5, momentum=.9, weight_decay=5e-4), clip_grad=None)
param_scheduler = [dict(type='PolyLR', eta_min=0, power=.9, begin=0, end=max_epochs * iters_per_epoch, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_epochs * iters_per_epoch, val_interval=iters_per_epoch)
val_cfg = dict(type='ValLoop'); test_cfg = dict(type='TestLoop')
default_hooks = dict(timer=dict(type='IterTimerHook'), logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False), param_scheduler=dict(type='ParamSchedulerHook'),
  checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=iters_per_epoch, save_best='mIoU', max_keep_ckpts=1, filename_tmpl='step_{}.pth'), sampler_seed=dict(type='DistSamplerSeedHook'), visualization=dict(type='SegVisualizationHook'))
default_scope = 'mmseg'
visualizer = dict(type='SegLocalVisualizer', vis_backends=[dict(type='AimVisBackend', save_dir='aim', init_kwargs=dict(experiment='ddrnet 🚗'))], name='visualizer')
log_processor = dict(by_epoch=False)
load_from = 'https://download.openmmlab.com/mmsegmentation/v0.5/ddrnet/ddrnet_23-slim_in1k-pre_2xb6-120k_cityscapes-1024x1024/x.pth'
print(f'{len(train_dataloader["dataset"]["pipeline"])} steps')
