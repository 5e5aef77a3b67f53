import os.path as osp
from typing import List

import numpy as np
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS


@DATASETS.register_module()
class LandslideDataset(BaseSegDataset):
    """Scenes of six bands; label 1 is a slide."""
    classes = ('stable ground', 'landslide')
    palette = [
        (60, 60, 60),
        (220, 120, 0),
    ]
    METAINFO = dict(classes=classes, palette=palette)

    def __init__(self, img_suffix='.tif', seg_map_suffix='_mask.tif', reduce_zero_label=False, **kwargs) -> None:
        super(LandslideDataset, self).__init__(
            img_suffix=img_suffix,
            seg_map_suffix=seg_map_suffix,
            reduce_zero_label=reduce_zero_label,
            **kwargs)
