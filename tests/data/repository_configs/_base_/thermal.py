# 公共设置
dataset_type = 'BaseSegDataset'
data_root = 'data/thermal/'
classes = ('bg', 'person')
img_norm_cfg = dict(mean=[.5], std=[.25])
train_pipeline = [dict(type='LoadImageFromFile', color_type='unchanged'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
test_pipeline = train_pipeline
train_dataloader = dict(batch_size=2, num_workers=2, sampler=dict(type='InfiniteSampler', shuffle=True), dataset=dict(
    type=dataset_type, data_root=data_root, metainfo=dict(classes=classes), img_suffix='.npy', seg_map_suffix='.png',
    data_prefix=dict(img_path='train', seg_map_path='train_gt'), pipeline=train_pipeline))
val_dataloader = dict(batch_size=1, num_workers=2, sampler=dict(type='DefaultSampler', shuffle=False), dataset=dict(
    type=dataset_type, data_root=data_root, metainfo=dict(classes=classes), img_suffix='.npy', seg_map_suffix='.png',
    data_prefix=dict(img_path='val', seg_map_path='val_gt'), pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
