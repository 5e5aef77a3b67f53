# six bands of Sentinel-2, reflectances in 1e-4
custom_imports = dict(imports=['landslide_dataset'], allow_failed_imports=False)
default_scope = 'mmseg'

bands = [1, 2, 3, 7, 10, 11]
num_bands = len(bands)
num_classes = 2
experiment = f"unet_{num_bands}b"
project_dir = "work_dirs"
work_dir = f'{project_dir}/{experiment}'
data_root = '/mnt/nas01/geo data/landslides/'
crop_size = (64,) * 2
max_epochs = 40

data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=[0.0] * num_bands,
    std=[10000.0 for _ in bands],
    bgr_to_rgb=False,
    pad_val=0,
    seg_pad_val=255,
    size=crop_size)
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    pretrained=None,
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='UNet', in_channels=num_bands, base_channels=4, num_stages=4,
        strides=(1,) * 4, enc_num_convs=(2,) * 4, dec_num_convs=(2,) * 3,
        downsamples=(True,) * 3, enc_dilations=(1,) * 4, dec_dilations=(1,) * 3,
        with_cp=False, conv_cfg=None, norm_cfg=norm_cfg, act_cfg=dict(type='ReLU'),
        upsample_cfg=dict(type='InterpConv'), norm_eval=False),
    decode_head=dict(
        type='FCNHead', in_channels=4, in_index=-1, channels=4, num_convs=1, concat_input=False,
        dropout_ratio=0.1, num_classes=num_classes, norm_cfg=norm_cfg, align_corners=False,
        loss_decode=[
            dict(type='CrossEntropyLoss', loss_name='loss_ce', loss_weight=1.0, class_weight=[0.3, 1.7]),
            dict(type='DiceLoss', loss_name='loss_dice', loss_weight=3.0)]),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=tuple(int(s * 2 / 3) for s in crop_size)))

train_pipeline = [
    dict(type='LoadSingleRSImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=False, imdecode_backend='tifffile'),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.95),
    dict(type='RandomFlip', prob=0.5, direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PackSegInputs'),
]
test_pipeline = [train_pipeline[0], train_pipeline[1], train_pipeline[-1]]


def loader(split, pipeline, batch_size=1, **sampler):
    return dict(
        batch_size=batch_size,
        num_workers=2,
        persistent_workers=True,
        sampler=dict(type='DefaultSampler', **sampler),
        dataset=dict(
            type='LandslideDataset', data_root=data_root,
            ann_file='%s.txt' % split,
            data_prefix=dict(img_path='img', seg_map_path='mask'),
            pipeline=pipeline))


train_dataloader = loader('train', train_pipeline, 4, shuffle=True)
val_dataloader = loader('val', test_pipeline, shuffle=False)
test_dataloader = loader('test', test_pipeline, shuffle=False)
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU', 'mFscore'])
test_evaluator = val_evaluator

optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1.3e-05, betas=(0.9, 0.999)))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=True, begin=0, end=5),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=True, begin=5, end=max_epochs),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=20, log_metric_by_epoch=True),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=True, interval=5, save_best='mIoU', rule='greater'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'))
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'))
vis_backends = [dict(type='WandbVisBackend', init_kwargs=dict(project=experiment, name=f"{experiment}-{max_epochs}e"))]
visualizer = dict(type='SegLocalVisualizer', vis_backends=vis_backends, name='visualizer')
log_processor = dict(by_epoch=True)
log_level = 'INFO'
load_from = None
resume = False
