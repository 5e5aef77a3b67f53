from mmseg.registry import DATASETS
from mmseg.datasets import BaseSegDataset

# Цвета зависят от номера класса
NAMES = ['суша', 'вода', 'застройка']


@DATASETS.register_module(force=True)
class FloodDataset(BaseSegDataset):
    METAINFO = {
        'classes': NAMES,
        'palette': [[40 * i, 255 - 80 * i, 200] for i in range(len(NAMES))],
    }

    def __init__(self, *args, img_suffix='.png', seg_map_suffix='.png', **kwargs):
        super().__init__(*args, img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)
