from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.hooks import (CheckpointHook, DistSamplerSeedHook, IterTimerHook, LoggerHook,
                            ParamSchedulerHook)
from mmengine.optim import OptimWrapper
from mmengine.optim.scheduler import PolyLR
from mmengine.runner import IterBasedTrainLoop, TestLoop, ValLoop
from mmengine.visualization import AimVisBackend, LocalVisBackend
from mmseg.engine import SegVisualizationHook
from mmseg.visualization import SegLocalVisualizer
from torch.optim import AdamW

default_scope = None
train_cfg = dict(type=IterBasedTrainLoop, max_iters=800, val_interval=200)
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=AdamW, lr=1e-4, weight_decay=0.05))
param_scheduler = [dict(type=PolyLR, eta_min=0, power=0.9, begin=0, end=800, by_epoch=False)]
default_hooks = dict(
    timer=dict(type=IterTimerHook), logger=dict(type=LoggerHook, interval=50),
    param_scheduler=dict(type=ParamSchedulerHook),
    checkpoint=dict(type=CheckpointHook, by_epoch=False, interval=200),
    sampler_seed=dict(type=DistSamplerSeedHook), visualization=dict(type=SegVisualizationHook))
visualizer = dict(
    type=SegLocalVisualizer, name='visualizer',
    vis_backends=[dict(type=LocalVisBackend), dict(type=AimVisBackend, init_kwargs=dict(repo='/srv/aim'))])
train_sampler, test_sampler = dict(type=InfiniteSampler, shuffle=True), dict(type=DefaultSampler, shuffle=False)
log_processor = dict(by_epoch=False)
