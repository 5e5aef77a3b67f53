from mmseg.datasets import CityscapesDataset
from mmseg.registry import DATASETS

classes = CLASSES = ('road', 'building', 'green')
colours = dict(road=(128, 64, 128), building=(70, 70, 70), green=(107, 142, 35))


@DATASETS.register_module()
class CityA(CityscapesDataset):
    METAINFO = dict(classes=classes, palette=[list(colours[c]) for c in classes])

    def __init__(self, **kwargs):
        super().__init__(img_suffix='.png', seg_map_suffix='.png', **kwargs)


@DATASETS.register_module('CityB')
class _CityOfTheSouth(CityA):
    pass
