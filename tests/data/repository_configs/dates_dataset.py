from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

_TEXT = """
خلفية
تمر ناضج
تمر أخضر
"""
CLASSES = tuple(line.strip() for line in _TEXT.strip().split('\n'))
PALETTE = [[0, 0, 0]] + [[120, 60, 20], [90, 160, 40]]


@DATASETS.register_module()
class DatesDataset(BaseSegDataset):
    METAINFO = dict(classes=CLASSES, palette=PALETTE)

    def __init__(self, reduce_zero_label: bool = False, **kwargs) -> None:
        super().__init__(img_suffix='.jpg', seg_map_suffix='.png', reduce_zero_label=reduce_zero_label, **kwargs)
