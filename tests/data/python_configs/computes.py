import copy
import os.path as osp
import math

root = osp.join('data', 'tiles')
sizes = [2**i * 128 for i in range(3)]
scales = {f'x{s}': (s, s * 2) for s in sizes}


def step(name, **options):
    return dict(type=name, **options)


train_pipeline = [
    step('LoadImageFromFile'),
    step('LoadAnnotations'),
    *[step('RandomResize', scale=s, ratio_range=(.5, 2.)) for s in scales.values() if s[0] > 128],
    step('PackSegInputs'),
]
test_pipeline = copy.deepcopy(train_pipeline)
del test_pipeline[2:4]
test_pipeline.insert(1, step('Resize', scale=scales['x512'], keep_ratio=True))
iters_per_epoch = math.ceil(1001 / 8)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=iters_per_epoch * 10, val_interval=iters_per_epoch)
train_dataloader = dict(
    batch_size=8,
    num_workers=4 if len(sizes) > 2 else 2,
    dataset=dict(type='BaseSegDataset', data_root=root, pipeline=train_pipeline))
val_dataloader = {**train_dataloader, 'batch_size': 1}
val_dataloader['dataset'] = dict(train_dataloader['dataset'], pipeline=test_pipeline)
