_base_ = [
    './_base_/schedule.py',
]
datasets = []
for city, count in (('aachen', 3), ('bochum', 1)):
    datasets.append(dict(type='CityscapesDataset', data_root=f'data/{city}', indices=count))
train_dataloader = dict(dataset=dict(type='ConcatDataset', datasets=datasets))
seeds = [[s, s**2] for s in range(4)]
matrix = [[0.0] * 3 for _ in range(2)]
key = 'lr'
optim_wrapper = dict(optimizer={key: 0.5})
