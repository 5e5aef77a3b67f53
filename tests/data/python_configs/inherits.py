_base_ = ['./_base_/models/fcn.py', './_base_/schedule.py']
crop_size = (512, 1024)
data_preprocessor = dict(size=crop_size)
model = dict(
    data_preprocessor=data_preprocessor,
    backbone=dict(depth=101),
    decode_head=dict(_delete_=True, type='ASPPHead', dilations=(1, 12, 24, 36)))
