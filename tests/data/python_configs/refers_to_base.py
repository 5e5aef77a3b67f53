_base_ = ['./_base_/models/fcn.py', './_base_/schedule.py']
norm_cfg = _base_.norm_cfg
norm_cfg.type = 'BN'
head = _base_.model.decode_head
model = dict(
    decode_head=dict(num_classes=head.num_classes + 2, norm_cfg=norm_cfg),
    auxiliary_head=dict(type='FCNHead', channels=head.channels // 2, loss_decode=head.loss_decode))
optim_wrapper = dict(optimizer=dict(lr=_base_.optimizer.lr / 10))
work_dir = './work_dirs/{{fileBasenameNoExtension}}'
same = {{ _base_.optimizer.momentum }}
