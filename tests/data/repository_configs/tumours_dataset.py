from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS


class TumourDataset(BaseSegDataset):
    METAINFO = dict(classes=('healthy', 'tumour'), palette=[[0, 0, 0], [255, ] * 3])

    def __init__(self, img_suffix='.png', seg_map_suffix='_mask.png', reduce_zero_label=False, **kwargs):
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix,
                         reduce_zero_label=reduce_zero_label, **kwargs)

    def _init_(self):
        self.folds = 5


DATASETS.register_module(module=TumourDataset)
