default_scope = 'mmseg'
custom_imports = dict(imports=['mmdet.models', 'scrap_dataset'], allow_failed_imports=False)
classes = [c.strip() for c in '''
    background
    copper
    brass
    steel
    aluminium
'''.split('\n') if c.strip()]
n = len(classes)
crop_size = (64, 64)
points, queries = 64, 8
ffn = {'type': 'FFN', 'embed_dims': 16, 'feedforward_channels': 32, 'num_fcs': 2, 'ffn_drop': .0}
base = dict(embed_dims=16, num_heads=2)
attn = {**base, 'attn_drop': 0., 'proj_drop': 0., 'dropout_layer': None, 'batch_first': True}
depths = [1, 1, 1, 1]
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
                           bgr_to_rgb=True, pad_val=0, seg_pad_val=255, size=crop_size, test_cfg=dict(size_divisor=32)),
    backbone=dict(type='ResNet', depth=18, base_channels=4, stem_channels=4, num_stages=4, out_indices=(0, 1, 2, 3),
                  frozen_stages=-1, norm_cfg=dict(type='SyncBN', requires_grad=False), style='pytorch'),
    decode_head=dict(
        type='Mask2FormerHead', in_channels=[4 * 2**i for i in range(4)], strides=[4, 8, 16, 32], feat_channels=16,
        out_channels=16, num_classes=n, num_queries=queries, num_transformer_feat_level=3, align_corners=False,
        pixel_decoder=dict(
            type='mmdet.MSDeformAttnPixelDecoder', num_outs=3, norm_cfg=dict(type='GN', num_groups=4), act_cfg=dict(type='ReLU'),
            encoder=dict(num_layers=1, layer_cfg=dict(
                self_attn_cfg=dict(**base, num_levels=3, num_points=2, im2col_step=64, dropout=.0, batch_first=True,
                                   norm_cfg=None, init_cfg=None),
                ffn_cfg=dict({k: v for k, v in ffn.items() if k != 'type'}, act_cfg=dict(type='ReLU', inplace=True))), init_cfg=None),
            positional_encoding=dict(num_feats=8, normalize=True), init_cfg=None),
        enforce_decoder_input_project=False,
        positional_encoding=dict(num_feats=8, normalize=True),
        transformer_decoder=dict(return_intermediate=True, num_layers=2, layer_cfg=dict(
            self_attn_cfg=attn, cross_attn_cfg=attn,
            ffn_cfg=dict({k: v for k, v in ffn.items() if k != 'type'}, act_cfg=dict(type='ReLU', inplace=True),
                         dropout_layer=None, add_identity=True)), init_cfg=None),
        loss_cls=dict(type='mmdet.CrossEntropyLoss', use_sigmoid=False, loss_weight=2., reduction='mean',
                      class_weight=[1.0] * n + [0.1]),
        loss_mask=dict(type='mmdet.CrossEntropyLoss', use_sigmoid=True, reduction='mean', loss_weight=5.),
        loss_dice=dict(type='mmdet.DiceLoss', use_sigmoid=True, activate=True, reduction='mean', naive_dice=True, eps=1., loss_weight=5.),
        train_cfg=dict(num_points=points, oversample_ratio=3., importance_sample_ratio=.75,
                       assigner=dict(type='mmdet.HungarianAssigner', match_costs=[
                           dict(type='mmdet.ClassificationCost', weight=2.),
                           dict(type='mmdet.CrossEntropyLossCost', weight=5., use_sigmoid=True),
                           dict(type='mmdet.DiceCost', weight=5., pred_act=True, eps=1.)]),
                       sampler=dict(type='mmdet.MaskPseudoSampler'))),
    train_cfg=dict(), test_cfg=dict(mode='whole'))
steps = {
    'RandomChoiceResize': dict(scales=[int(x * .1 * 64) for x in range(5, 21)], resize_type='ResizeShortestEdge', max_size=256),
    'RandomCrop': dict(crop_size=crop_size, cat_max_ratio=.75), 'RandomFlip': dict(prob=.5), 'PhotoMetricDistortion': {}}
start, end = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')], [dict(type='PackSegInputs')]
train_pipeline = start + [dict(type=name, **options) for name, options in steps.items()] + end
test_pipeline = [start[0], {'type': 'Resize', 'scale': (256, 64), 'keep_ratio': True}, start[1], end[0]]
train_dataloader, val_dataloader = [dict(
    batch_size=b, num_workers=2, persistent_workers=True, sampler=s,
    dataset=dict(type='ScrapDataset', data_root='data/scrap', pipeline=p,
                 data_prefix=dict(zip(('img_path', 'seg_map_path'), (f'{part}/i', f'{part}/l')))))
    for b, part, p, s in [(2, 'train', train_pipeline, dict(type='InfiniteSampler', shuffle=True)),
                          (1, 'val', test_pipeline, dict(type='DefaultSampler', shuffle=False))]]
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
embed_multi = dict(lr_mult=1.0, decay_mult=0.0)
custom_keys = {'backbone': dict(lr_mult=0.1, decay_mult=1.0), **{k: embed_multi for k in ('query_embed', 'query_feat', 'level_embed')}}
custom_keys.update({f'backbone.layer{i + 1}.{b}.conv1': dict(lr_mult=0.1, decay_mult=0.5) for i, d in enumerate(depths) for b in range(d)})
optimizer = dict(type='AdamW', lr=1e-4, weight_decay=.05, eps=1e-8, betas=(.9, .999))
optim_wrapper = dict(type='OptimWrapper', optimizer=optimizer, clip_grad=dict(max_norm=.01, norm_type=2),
                     paramwise_cfg=dict(custom_keys=custom_keys, norm_decay_mult=0.0))
param_scheduler = [dict(type='PolyLR', eta_min=0, power=.9, begin=0, end=90_0, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=90_0, val_interval=30_0)
val_cfg, test_cfg = (dict(type=f'{x}Loop') for x in ('Val', 'Test'))
default_hooks = {k: dict(type=t) for k, t in dict(
    timer='IterTimerHook', param_scheduler='ParamSchedulerHook', sampler_seed='DistSamplerSeedHook',
    visualization='SegVisualizationHook').items()} | dict(
        logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
        checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=300, save_best='mIoU'))
vis_backends = [dict(type='WandbVisBackend', init_kwargs=dict(project='scrap', config=dict(classes=classes)))]
visualizer = dict(type='SegLocalVisualizer', vis_backends=vis_backends, name='visualizer')
auto_scale_lr = dict(enable=False, base_batch_size=16)
log_processor = dict(by_epoch=False)
