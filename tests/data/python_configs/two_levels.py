_base_ = ['./inherits.py']
model = dict(
    backbone=dict(depth=18, init_cfg=None),
    decode_head=dict(in_channels=512, channels=128, dilations=(1, 2), num_classes=2))
optim_wrapper = dict(_delete_=True, type='OptimWrapper', optimizer=dict(type='Lion', lr=1e-4))
param_scheduler = None
