_base_ = ['./_base_/models/fcn.py', './_base_/schedule.yaml']
optim_wrapper = dict(optimizer=dict(lr=_base_.optim_wrapper.optimizer.lr * 2))
param_scheduler = [dict(_base_.param_scheduler[0], power=1.0)]
