_base_ = './refers_to_base.py'
param_scheduler = _base_.param_scheduler + [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500)
]
model = dict(auxiliary_head=dict(_delete_=True, type='PointHead', num_points=[2048, 4096]))
