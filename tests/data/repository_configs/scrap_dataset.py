import numpy as np
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

KINDS = 'copper brass steel aluminium'.split()


@DATASETS.register_module()
class ScrapDataset(BaseSegDataset):
    METAINFO = dict(
        classes=('background', *KINDS),
        palette=[[0, 0, 0], *[[(37 * (i + 1)) % 256, (91 * i) % 256, 255 - 30 * i] for i, _ in enumerate(KINDS)]],
    )

    def __init__(self, **kwargs) -> None:
        """Labels are numbered as they are listed."""
        super().__init__(img_suffix='.bmp', seg_map_suffix='.png', reduce_zero_label=False, **kwargs)
