_base_ = './computes.py'
train_pipeline = _base_.train_pipeline
train_pipeline[0]['to_float32'] = True
train_pipeline.append(dict(type='ResizeToMultiple', size_divisor=32))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
for name in ('val', 'test'):
    globals()[f'{name}_evaluator'] = dict(type='IoUMetric', iou_metrics=['mIoU'])
