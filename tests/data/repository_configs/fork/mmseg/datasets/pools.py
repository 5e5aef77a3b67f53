# Copyright (c) OpenMMLab. All rights reserved.
from mmseg.registry import DATASETS
from .basesegdataset import BaseSegDataset


@DATASETS.register_module()
class SwimmingPoolDataset(BaseSegDataset):

    METAINFO = dict(
        classes=('background', 'pool', 'cover'),
        palette=[[0, 0, 0],      # background
                 [0, 200, 255],  # pool
                 [90, 90, 90],   # cover
                 ])

    def __init__(self,
                 img_suffix='.png',
                 seg_map_suffix='.png',
                 reduce_zero_label=False,
                 **kwargs) -> None:
        super().__init__(
            img_suffix=img_suffix,
            seg_map_suffix=seg_map_suffix,
            reduce_zero_label = reduce_zero_label,
            **kwargs)
